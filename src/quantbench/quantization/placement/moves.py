"""Calls that move values without changing them: channels, padding, subsampling, other shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.kinds import Kind, number_arguments, plane

MAX_POOLS = (F.max_pool2d, torch.max_pool2d)

SPLITS = (torch.chunk, torch.split, "chunk", "split")


def concat(node: Node) -> Kind:
    """Parts side by side."""
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    axis = int(dim) % node.example.dim() - 1
    return Kind("concat", axis=axis) if axis >= 0 else Kind("other", why="concatenates examples")


def pad(node: Node) -> Kind:
    """Zeros around."""
    names = ("padding",) if isinstance(node.target, nn.Module) else ("pad", "mode", "value")
    p = number_arguments(node, (*names, "value"), {"mode": "constant", "value": 0})
    given, rank = tuple(p[names[0]]), node.example.dim()
    if below_all(node):
        return Kind("same")  # part of the pools that read it
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


def below_all(node: Node) -> tuple[int, int, int, int] | None:
    """Rows and columns (top, left, bottom, right) that no maximum sees, of images for max pools."""
    if node.target is not F.pad or node.example.dim() != 4 or not node.users:
        return None
    names = ("pad", "mode", "value")
    p = number_arguments(node, names, {"mode": "constant", "value": 0})
    given = tuple(p["pad"])
    pools = all(_pools_alone(user) for user in node.users)
    if p["value"] != -math.inf or not pools or len(given) > 4 or min(given) < 0:
        return None
    left, right, top, bottom = (*given, 0, 0)[:4]
    return int(top), int(left), int(bottom), int(right)


def _pools_alone(node: Node) -> bool:
    """Whether a call is a max pool without a padding of its own, or gaps in its window."""
    if node.target not in MAX_POOLS and not isinstance(node.target, nn.MaxPool2d):
        return False
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    p = number_arguments(node, names, {"padding": 0, "dilation": 1})
    given = p["padding"] in (0, (0, 0), [0, 0]) and p["dilation"] in (1, (1, 1), [1, 1])
    return given and isinstance(node.example, Tensor)


def subsampled(node: Node) -> Kind:
    """``x[:, :, ::2, ::2]``; a part of one direction, such as ``x[:, :24]``; a part of a split."""
    whole = node.inputs[0]
    if isinstance(whole.example, tuple):
        return _part(node, whole)
    rank = whole.example.dim()
    index = _whole_index(node.args[1], rank)
    cut = [n for n, i in enumerate(index) if not (isinstance(i, slice) and i == slice(None))]
    if not cut:
        return Kind("same")
    plain = all(isinstance(i, slice) and i.start is None and i.stop is None for i in index)
    steps = [int(i.step or 1) for i in index] if plain else []
    steps += [1] * (rank - len(steps))
    if plain and steps[:2] == [1, 1] and rank <= 4:
        rows, columns = [1, 1, *steps[2:]][-2:]
        return Kind("pad", {"pads": (0,) * 6, "stride": (rows, columns)})
    if len(cut) == 1 and cut[0] > 0 and isinstance(index[cut[0]], slice | int):
        return chosen(node, cut[0] - 1)
    if plain:
        return Kind("other", why="subsampling of channels, images or volumes")
    return Kind("other", why="indexing that is not plain subsampling")


def _part(node: Node, whole: Node) -> Kind:
    """One of the parts that a call gives."""
    if whole.target not in SPLITS or split(whole).word != "same":
        return Kind("other", why="a part of what is no split")
    return chosen(node, _split_axis(whole), through=whole)


def _whole_index(given: Any, rank: int) -> tuple[Any, ...]:
    """An index with an entry for each direction, as far as it goes."""
    index = given if isinstance(given, tuple) else (given,)
    if any(i is Ellipsis for i in index):
        at = next(n for n, i in enumerate(index) if i is Ellipsis)
        missing = rank - len(index) + 1
        index = (*index[:at], *[slice(None)] * missing, *index[at + 1 :])
    return index


def chosen(node: Node, axis: int = 0, through: Node | None = None) -> Kind:
    """A call that only moves channels: which ones, from what it makes of their numbers.

    Args:
        node: the call.
        axis: the direction of one example whose positions are the channels.
        through: the split that it takes a part of, if it does.

    """
    source = (through or node).inputs[0]
    if not source.example.is_floating_point():
        return Kind("other", why="a part of what are no floats")
    channels = source.example.shape[axis + 1]
    behind = (1,) * (source.example.dim() - 2 - axis)
    numbers = torch.arange(channels).reshape(1, *(1,) * axis, -1, *behind)
    values: dict[Node, Any] = {source: numbers}
    if through is not None:
        values[through] = through.run(values)
    found = tuple(int(c) for c in node.run(values).flatten())
    if found == tuple(range(channels)) and node.example.dim() == source.example.dim():
        return Kind("same")
    return Kind("select", {"channels": found}, axis=axis)


def split(node: Node) -> Kind:
    """Parts along one direction; each is read as what it takes of the whole."""
    return Kind("same") if _split_axis(node) >= 0 else Kind("other", why="splits examples")


def _split_axis(node: Node) -> int:
    """The direction of one example along which a split goes; -1 for the examples."""
    dim = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    rank: int = node.inputs[0].example.dim()
    return int(dim) % rank - 1


def reshaped(node: Node) -> Kind:
    """Another shape of the same values in the same order."""
    x, y = node.inputs[0].example, node.example
    if x.dtype != y.dtype or x.shape[0] != y.shape[0] or x.shape.numel() != y.shape.numel():
        return Kind("other", why=f"reshapes {tuple(x.shape)} to {tuple(y.shape)}")
    if x.shape != y.shape and y.shape == x.flatten(1).shape:
        return Kind("flatten")
    if plane(x.shape) == plane(y.shape):
        return Kind("same")
    return _rearranged(x, plane(x.shape), (0, 1, 2), y)


def transposed(node: Node) -> Kind:
    """Directions in another order."""
    x = node.inputs[0].example
    if node.target is getattr and node.args[1] != "mT":
        return Kind("other", why=f"the attribute {node.args[1]}")
    sizes = _PRIMES[: x.dim()]  # all different, so that one sees where each has gone
    order = [sizes.index(s) for s in node.run({node.inputs[0]: torch.empty(sizes)}).shape]
    if order[0] != 0:
        return Kind("other", why="an order of directions in which examples are not the first")
    return _rearranged(x, x.shape[1:], [a - 1 for a in order[1:]], node.example)


_PRIMES = (2, 3, 5, 7, 11, 13)


def pixels(node: Node) -> Kind:
    """Groups of channels as squares of pixels, or back."""
    x, y = node.inputs[0].example, node.example
    if x.dim() != 4:
        return Kind("other", why="a shuffle of what are no images")
    (_, a, h, w), (_, b, oh, ow) = x.shape, y.shape
    if b < a:
        n = oh // h
        return _rearranged(x, (b, n, n, h, w), (0, 3, 1, 4, 2), y)
    n = h // oh
    return _rearranged(x, (a, oh, n, ow, n), (0, 2, 4, 1, 3), y)


def _rearranged(x: Tensor, split: Sequence[int], axes: Sequence[int], y: Tensor) -> Kind:
    if not x.is_floating_point():
        return Kind("other", why="an order of what are no floats")
    moved = [a for a in axes if split[a] > 1]
    if moved == sorted(moved) and plane(x.shape) == plane(y.shape):
        return Kind("same")
    split = tuple(int(n) for n in split)
    return Kind("rearrange", {"split": split, "axes": tuple(axes), "into": plane(y.shape)})
