"""Operators that keep their input's format, means, products, and the end of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from quantbench.integer import ir
from quantbench.integer.ir import Format, Shape
from quantbench.integer.qdq.graph import SHIFT, Graph, attribute, pairs
from quantbench.integer.qdq.islands import softmax
from quantbench.integer.qdq.orders import SHAPES, reshaped, transposed
from quantbench.integer.qdq.slices import gathered, sliced
from quantbench.integer.qdq.state import State
from quantbench.integer.qdq.windows import interpolation_of, window

KEEPS = (*SHAPES, "Transpose", "MaxPool", "Pad", "Slice")

_BOUNDS = ("Clip", "Min", "Max")  # on codes themselves, as our own export writes them


def on_codes(r: State, node: onnx.NodeProto, x: str, *, real: bool) -> str:
    """An operator that keeps its input's format, on codes.

    Args:
        r: knows formats and shapes.
        node: of the file.
        x: name of the codes in the program.
        real: whether the node works on floats, between DequantizeLinear and QuantizeLinear.

    Raises:
        Unsupported: it is no such operator, or of a form that has none.

    """
    f, shape = r.formats[x], r.shapes[x]
    about: dict[str, Any] = {"name": node.name or node.output[0], "inputs": (x,), "out": f}
    about["output"] = r.name(node.output[0])
    if node.op_type in ("Identity", "Dropout"):
        return x
    if node.op_type in SHAPES:
        return reshaped(r, node, x)
    if node.op_type == "Transpose":
        return transposed(r, node, x)
    made: ir.Op | None = None
    if node.op_type == "MaxPool":
        made = _max_pool(r, node, shape, about)
    elif node.op_type == "Pad":
        made = ir.Pad(**about, pads=_pads(r, node, x, real=real))
    elif node.op_type == "Slice":
        made = sliced(r.graph, node, shape, about)
    elif node.op_type == "Gather" and not real:
        made = gathered(r.graph, node, shape, about)
    elif node.op_type in _BOUNDS and not real:
        made = ir.Lut(**about, table=_bounded(r, node, x))
    if made is None:
        raise r.graph.refuse(node, "has no exact integer form here")
    return r.push(made)


def _max_pool(r: State, node: onnx.NodeProto, shape: Shape, about: dict[str, Any]) -> ir.MaxPool:
    w = window(r.graph, node, pairs(attribute(node, "kernel_shape", [1, 1])), shape)
    if w.dilation != (1, 1):
        raise r.graph.refuse(node, "a dilated pool")
    return ir.MaxPool(**about, kernel=w.kernel, stride=w.stride, pads=w.pads)


def _pads(
    r: State, node: onnx.NodeProto, x: str, *, real: bool
) -> tuple[int, int, int, int, int, int]:
    """Front and back channels, top, left, bottom, right of a Pad by the value zero."""
    names = [*node.input, "", ""]
    amounts = attribute(node, "pads", None)
    if amounts is None:
        amounts = r.graph.constants.get(names[1])
    if amounts is None or len(amounts) != 8 or attribute(node, "mode", "constant") != "constant":
        raise r.graph.refuse(node, "pads by other than constant amounts of one value")
    fill = r.graph.constants.get(names[2], np.float32(attribute(node, "value", 0.0)))
    zero = 0 if real else r.formats[x].zero - SHIFT.get(np.asarray(fill).dtype.name, 0)
    n, front, top, left, m, back, bottom, right = (int(a) for a in amounts)
    if n or m or min(front, back, top, left, bottom, right) < 0 or float(np.max(fill)) != zero:
        raise r.graph.refuse(node, "pads by another value than zero, or crops")
    return front, back, top, left, bottom, right


def _bounded(r: State, node: onnx.NodeProto, x: str) -> ir.Codes:
    """Codes kept between bounds; ours are shifted where the file's are signed."""
    names = [n for n in node.input[1:3] if n]
    values = [r.graph.constants.get(n) for n in names]
    if any(v is None or v.size != 1 for v in values) or not values:
        raise r.graph.refuse(node, "bounds of codes that are not one number each")
    ends = [int(v.reshape(-1)[0]) + SHIFT.get(v.dtype.name, 0) for v in values if v is not None]
    low = ends[0] if node.op_type == "Max" or (node.op_type == "Clip" and node.input[1]) else 0
    high = ends[-1] if node.op_type == "Min" or len(node.input) > 2 else 255
    f = r.formats[x]
    return np.clip(np.clip(np.arange(256), low, high), f.lo, f.hi).astype(np.uint8)


def average(r: State, node: onnx.NodeProto, tensor: str, y: Format, output: str) -> str:
    """A mean over windows, or over whole maps, of what the node reads or of a part of it."""
    x = r.need(node, tensor)
    shape, graph = r.shapes[x], r.graph
    name = node.name or output
    about: dict[str, Any] = {"name": name, "inputs": (x,), "output": r.name(output), "out": y}
    if node.op_type == "AveragePool":
        kernel = pairs(attribute(node, "kernel_shape", [1, 1]))
        w = window(graph, node, kernel, shape)
        counted = bool(attribute(node, "count_include_pad", 0))
        if attribute(node, "ceil_mode", 0) and w != window(graph, _floored(node), kernel, shape):
            raise graph.refuse(node, "a mean over windows that reach beyond the edge (ceil_mode)")
        if w.dilation != (1, 1):
            raise graph.refuse(node, "a dilated pool")
        more: dict[str, Any] = {
            "stride": w.stride,
            "pads": w.pads,
            "count_padding": counted or not any(w.pads),
        }
        return r.push(ir.AvgPool(**about, kernel=kernel, **more))
    if node.op_type == "ReduceMean":
        axes = attribute(node, "axes", None)
        if axes is None and len(node.input) > 1 and node.input[1] in graph.constants:
            axes = graph.constants[node.input[1]].tolist()
        if axes is None or sorted(int(a) % 4 for a in axes) != [2, 3]:
            raise graph.refuse(node, "a mean over other axes than rows and columns")
    down, across = shape[1:]
    return r.push(ir.AvgPool(**about, kernel=(down, across), stride=(down, across)))


def _floored(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    for a in made.attribute:
        if a.name == "ceil_mode":
            a.i = 0
    return made


def joined(r: State, node: onnx.NodeProto, parts: list[str], y: Format, output: str) -> str:
    """Codes side by side, along the channels."""
    require_channels(r.graph, node, 4)
    name = node.name or output
    return r.push(ir.Concat(name=name, inputs=tuple(parts), output=r.name(output), out=y))


def product(r: State, node: onnx.NodeProto, y: Format, output: str) -> str:
    """Of two quantized tensors; one may have the same value for all rows or columns."""
    inputs = tuple(r.need(node, n) for n in node.input)
    ranks = [len(r.graph.sizes.get(n, ())) for n in node.input]
    a, b = (r.shapes[i] for i in inputs)
    if a != b and ranks != [4, 4]:  # ONNX puts the last directions side by side
        raise r.graph.refuse(node, f"multiplies {a} and {b}, of {ranks} directions")
    made = r.name(output)
    return r.push(ir.Mul(name=node.name or output, inputs=inputs, output=made, out=y))


def normalized(r: State, node: onnx.NodeProto, y: Format, output: str) -> str:
    """Local response normalization, over windows with a middle and to the power of 3/4."""
    size, beta = int(attribute(node, "size", 0)), float(attribute(node, "beta", 0.75))
    if size % 2 == 0 or beta != 0.75:
        raise r.graph.refuse(node, f"a window of {size} channels to the power of {beta}")
    alpha, k = (float(attribute(node, n, v)) for n, v in (("alpha", 1e-4), ("bias", 1.0)))
    x, made = r.need(node, node.input[0]), r.name(output)
    about: dict[str, Any] = {"name": node.name or output, "inputs": (x,), "output": made}
    return r.push(ir.LRN(**about, out=y, size=size, alpha=alpha, k=k))


def resized(r: State, node: onnx.NodeProto, y: Format | None, output: str) -> str:
    """Images that are interpolated, in a format or as floats."""
    found = interpolation_of(r.graph, node)
    if found is None:
        raise r.graph.refuse(node, "has no exact integer form here")
    x, made = r.need(node, found.source), r.name(output)
    about: dict[str, Any] = {"name": node.name or output, "inputs": (x,), "output": made}
    op = ir.Resize(**about, out=y, size=found.size, align_corners=found.align_corners)
    return r.push(op)


def require_channels(graph: Graph, node: onnx.NodeProto, rank: int) -> None:
    """Refuse a concatenation along another axis than the channels'."""
    axis = int(attribute(node, "axis", 1))
    known = len(graph.sizes.get(node.output[0], range(rank)))
    if axis != 1 and axis + known != 1:
        raise graph.refuse(node, f"concatenates along axis {axis}, not the channels")


def output(r: State) -> None:
    """The end: logits of a layer, values of codes, or probabilities."""
    graph, tensor = r.graph, r.graph.output
    while graph.kind(tensor) in (*SHAPES, "Identity", "Dropout") and r.kept(tensor) is None:
        tensor = graph.makers[tensor].input[0]
    x = r.kept(tensor)
    if x is not None:
        made = r.name("logits")
        r.push(ir.Dequantize(name="output", inputs=(x,), output=made, out=None))
        return
    if interpolation_of(graph, graph.makers.get(tensor)) is not None:
        resized(r, graph.makers[tensor], None, r.name("logits"))
        return
    layer = r.layer(tensor)
    if layer is not None:
        r.emit_layer(layer, (), None, r.name("logits"))
        return
    node = graph.makers.get(tensor)
    if node is not None and node.op_type == "Softmax":
        softmax(r, node, None, "logits")
        return
    if graph.output in r.tensors:
        raise graph.refuse(graph.makers[graph.output], "the network's output is codes, not values")
    raise graph.refuse(node or graph.nodes[-1], "ends the network without a quantized input")
