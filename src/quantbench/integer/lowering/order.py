"""Which direction of a tensor an operator takes for its channels, as changes of order.

A program's operators have their channels first. A linear layer of tokens (T, C) has them last, and
so has one of images (H, W, C): the tensor is turned for it, and its result is turned back. A
constant for each position has them everywhere: then all positions are channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from quantbench.integer import ir
from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.kinds import EVERYWHERE, VOLUME, Kind, plane
from quantbench.quantization.placement.place import Graph


class Ordered:
    """Operators of a program in the making, with the changes of order that they need."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops: list[ir.Op] = []
        self.formats: dict[str, ir.Format] = {}

    def push(self, op: ir.Op) -> str:
        """Append an operator; gives the name of its output."""
        self.ops.append(op)
        if op.out is not None:
            self.formats[op.output] = op.out
        return op.output

    def turned(self, x: str, node: Node, axis: int) -> str:
        """The codes ``x`` of a call's value with one of its directions in front, made once."""
        if axis == 0:
            return x
        sizes = _whole(node).example.shape[1:]
        name = f"{x}.{'x'.join(map(str, sizes))}.{axis}"
        if name not in self.formats:
            self._rearrange(node, x, name, front(sizes, axis))
        return name

    def back(self, made: str, node: Node, output: str) -> str:
        """The codes of a call's result in its own order, where the operator had another."""
        if made == output:
            return made
        axis, dropped = self.graph.kinds[node].axis, _drops(node)
        turned = back(node.example.shape[1:], axis, dropped=dropped)
        return self._rearrange(node, made, output, turned)

    def _rearrange(self, node: Node, x: str, output: str, order: dict[str, Any]) -> str:
        f = self.formats[x]
        return self.push(ir.Rearrange(name=node.name, inputs=(x,), output=output, out=f, **order))


def first_name(output: str, node: Node, kind: Kind) -> str:
    """Name of what an operator makes before its result is turned back, if it has to be."""
    turned = kind.axis or (kind.word == "select" and _drops(node))
    return f"{output}.front" if turned else output


def _drops(node: Node) -> bool:
    """Whether a direction is gone behind a call."""
    given = _whole(next(n for n in node.inputs if not n.constant))
    return bool(given.example.dim() != node.example.dim())


def _whole(node: Node) -> Node:
    """What a split splits; any other call itself."""
    return node if isinstance(node.example, Tensor) else node.inputs[0]


def front(sizes: Sequence[int], axis: int) -> dict[str, Any]:
    """Fields of the ``Rearrange`` that puts a direction of one example in front of the others."""
    if axis == EVERYWHERE:
        whole = math.prod(sizes)
        return {"split": (whole,), "axes": (0,), "into": (whole, 1, 1)}
    if axis == VOLUME:
        c, d, h, w = map(int, sizes)
        return {"split": (c, d, h, w), "axes": (0, 1, 2, 3), "into": (c * d, h, w)}
    axes = _axes(len(sizes), axis)
    shape = plane((1, *(sizes[a] for a in axes)))
    return {"split": tuple(map(int, sizes)), "axes": axes, "into": shape}


def back(sizes: Sequence[int], axis: int, *, dropped: bool) -> dict[str, Any]:
    """The way back, to the sizes of one example of a result.

    Args:
        sizes: of the result.
        axis: of the operator.
        dropped: whether a direction is gone; what is left is in order then.

    """
    shape = plane((1, *sizes))
    if axis in (EVERYWHERE, VOLUME) or dropped:
        return {"split": shape, "axes": (0, 1, 2), "into": shape}
    axes = _axes(len(sizes), axis)
    split = tuple(int(sizes[a]) for a in axes)
    return {"split": split, "axes": tuple(axes.index(a) for a in range(len(sizes))), "into": shape}


def _axes(count: int, axis: int) -> tuple[int, ...]:
    return axis, *(a for a in range(count) if a != axis)
