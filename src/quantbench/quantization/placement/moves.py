"""Calls that move values without changing them: channels, padding, subsampling, other shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.kinds import Kind, number_arguments, plane

SPLITS = (torch.chunk, torch.split, "chunk", "split")


def concat(node: Node) -> Kind:
    """Parts side by side."""
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if dim not in (1, 1 - node.example.dim()):
        return Kind("other", why=f"concatenates dimension {dim}")
    return Kind("concat")


def pad(node: Node) -> Kind:
    """Zeros around."""
    names = ("padding",) if isinstance(node.target, nn.Module) else ("pad", "mode", "value")
    p = number_arguments(node, (*names, "value"), {"mode": "constant", "value": 0})
    given, rank = tuple(p[names[0]]), node.example.dim()
    zeros = p.get("mode", "constant") == "constant" and not p["value"]
    if not zeros or min(given) < 0:
        return Kind("other", why="padding with something other than zeros")
    if rank > 4 or any(given[2 * (rank - 1) :]):
        return Kind("other", why="padding of volumes, or of examples")
    before, after = (dict(enumerate(given[i::2])) for i in (0, 1))  # from the last dimension on
    axes = {2: (None, None, 0), 3: (None, 0, 1), 4: (1, 0, 2)}[rank]  # rows, columns, channels
    (top, bottom), (left, right), (front, back) = (
        (0, 0) if axis is None else (int(before.get(axis, 0)), int(after.get(axis, 0)))
        for axis in axes
    )
    return Kind("pad", {"pads": (front, back, top, left, bottom, right), "stride": (1, 1)})


def subsampled(node: Node) -> Kind:
    """``x[:, :, ::2, ::2]``; channels alone, such as ``x[:, :24]``; or a part of a split."""
    whole = node.inputs[0]
    if isinstance(whole.example, tuple):
        if whole.target not in SPLITS or split(whole).word != "same":
            return Kind("other", why="a part of what is not split along the channels")
        return chosen(node, through=whole)
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    others = [i for n, i in enumerate(index) if n != 1]
    if len(index) > 1 and isinstance(index[1], slice) and all(i == slice(None) for i in others):
        return chosen(node)
    if not all(isinstance(i, slice) and i.start is None and i.stop is None for i in index):
        return Kind("other", why="indexing that is not plain subsampling")
    rank = whole.example.dim()
    steps = [int(i.step or 1) for i in index] + [1] * (rank - len(index))
    if steps[:2] != [1, 1] or rank > 4:
        return Kind("other", why="subsampling of channels, images or volumes")
    rows, columns = [1, 1, *steps[2:]][-2:]
    return Kind("pad", {"pads": (0,) * 6, "stride": (rows, columns)})


def chosen(node: Node, through: Node | None = None) -> Kind:
    """A call that only moves channels: which ones, from what it makes of their numbers.

    Args:
        node: the call.
        through: the split that it takes a part of, if it does.

    """
    source = (through or node).inputs[0]
    channels = source.example.shape[1]
    numbers = torch.arange(channels).reshape(1, -1, *(1,) * (source.example.dim() - 2))
    values: dict[Node, Any] = {source: numbers}
    if through is not None:
        values[through] = through.run(values)
    found = tuple(int(c) for c in node.run(values).flatten())
    return Kind("same") if found == tuple(range(channels)) else Kind("select", {"channels": found})


def split(node: Node) -> Kind:
    """Parts along the channels; each is read as what it takes of the whole."""
    dim = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    rank = node.inputs[0].example.dim()
    return Kind("same") if dim in (1, 1 - rank) else Kind("other", why=f"splits dimension {dim}")


def reshaped(node: Node) -> Kind:
    """Another shape of the same values in the same order."""
    x, y = node.inputs[0].example, node.example
    if x.dtype != y.dtype or x.shape[0] != y.shape[0]:
        return Kind("other", why=f"reshapes {tuple(x.shape)} to {tuple(y.shape)}")
    if x.shape != y.shape and y.shape == x.flatten(1).shape:
        return Kind("flatten")
    if plane(x.shape) == plane(y.shape):
        return Kind("same")
    return Kind("other", why=f"reshapes {tuple(x.shape)} to {tuple(y.shape)}")
