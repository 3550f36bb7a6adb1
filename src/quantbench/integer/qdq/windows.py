"""Windows of convolutions and pools, as ONNX writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from quantbench.integer.ir import Shape
from quantbench.integer.qdq.graph import Graph, attribute, pairs
from quantbench.integer.scales import interpolation

Pair = tuple[int, int]

Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """Geometry on one image: kernel, stride, dilation, and pads (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: Pads


def window(graph: Graph, node: onnx.NodeProto, kernel: Pair, x: Shape) -> Window:
    """Read a node's window on an input (C, H, W).

    Raises:
        Unsupported: three dimensions, or one.

    """
    lists = ("strides", "dilations", "pads")
    strides, dilations, pads = (list(attribute(node, n, [])) for n in lists)
    if any(len(v) not in (0, 2) for v in (strides, dilations)) or len(pads) not in (0, 4):
        raise graph.refuse(node, "its window has not two dimensions")
    stride, dilation = pairs(strides or [1, 1]), pairs(dilations or [1, 1])
    top, left, bottom, right = pads or (0, 0, 0, 0)
    found = Window(kernel, stride, dilation, (top, left, bottom, right))
    word = attribute(node, "auto_pad", "NOTSET")
    if word in ("SAME_UPPER", "SAME_LOWER"):
        return Window(kernel, stride, dilation, _same(found, x, upper=word == "SAME_UPPER"))
    if word not in ("NOTSET", "VALID"):
        raise graph.refuse(node, f"auto_pad {word!r}")
    if attribute(node, "ceil_mode", 0):
        return Window(kernel, stride, dilation, _ceiled(found, x))
    return found


def _reach(w: Window) -> Pair:
    down, across = ((k - 1) * d + 1 for k, d in zip(w.kernel, w.dilation, strict=True))
    return down, across


def _same(w: Window, x: Shape, *, upper: bool) -> Pads:
    """Pads with which there are as many outputs as strides in the input."""
    before, after = [], []
    for size, reach, stride in zip(x[1:], _reach(w), w.stride, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        less, more = total // 2, total - total // 2
        before.append(less if upper else more)
        after.append(more if upper else less)
    return before[0], before[1], after[0], after[1]


def _ceiled(w: Window, x: Shape) -> Pads:
    """Pads that reach as far as the last window does, where sizes are rounded up.

    A window that would begin behind the input and its first padding is left out, as ONNX has it.
    """
    ends = []
    for i, (size, reach, stride) in enumerate(zip(x[1:], _reach(w), w.stride, strict=True)):
        before, after = w.pads[i], w.pads[i + 2]
        count = -(-(size + before + after - reach) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        ends.append(max(after, (count - 1) * stride + reach - size - before))
    return w.pads[0], w.pads[1], ends[0], ends[1]


@dataclass(frozen=True)
class Interpolation:
    """Two products with matrices that interpolate images, as our own export writes them.

    Attributes:
        source: the tensor of images.
        size: rows and columns of the result.
        align_corners: the corners of both are the same points.

    """

    source: str
    size: Pair
    align_corners: bool


def interpolation_of(graph: Graph, node: onnx.NodeProto | None) -> Interpolation | None:
    """What a product with the columns' weights interpolates; None for every other product."""
    inner = graph.makers.get(node.input[0]) if node is not None else None
    if node is None or inner is None or (node.op_type, inner.op_type) != ("MatMul", "MatMul"):
        return None
    columns, rows = graph.constants.get(node.input[1]), graph.constants.get(inner.input[0])
    if columns is None or rows is None or (columns.ndim, rows.ndim) != (2, 2):
        return None
    if not columns.size or not rows.size:
        return None
    for align in (False, True):
        right = [interpolation(*m.shape[::-1], align_corners=align) for m in (rows, columns.T)]
        if all(np.array_equal(a, b) for a, b in zip(right, (rows, columns.T), strict=True)):
            return Interpolation(inner.input[1], (len(rows), columns.shape[1]), align)
    return None
