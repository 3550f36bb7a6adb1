"""QOperator files as QDQ: every operator on codes between its own pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

Nodes = list[onnx.NodeProto]


class Unfolder:
    """Writes the float operator, with dequantized inputs, that an operator on codes stands for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.stored = {i.name: i for i in model.graph.initializer}
        self.nodes: Nodes = []

    def real(self, about: Sequence[str], axis: int | None = None) -> str:
        """Values of (codes, scale, zero point); along ``axis`` where there are several scales."""
        codes, scale, zero = about
        name = f"{codes}.real{len(self.nodes)}"
        several = scale in self.stored and int(np.prod(self.stored[scale].dims)) > 1
        more = {"axis": axis} if several and axis is not None else {}
        ins = [n for n in (codes, scale, zero) if n]
        self.nodes.append(helper.make_node("DequantizeLinear", ins, [name], name=name, **more))
        return name

    def bias(self, codes: str, x_scale: str, w_scale: str) -> str:
        """Values of a bias, whose steps are the product of both scales."""
        values = [numpy_helper.to_array(self.stored[n]) for n in (x_scale, w_scale)]
        name = f"{codes}.scale{len(self.nodes)}"
        made = numpy_helper.from_array(np.asarray(values[0] * values[1], np.float32), name)
        self.graph.initializer.append(made)
        self.stored[name] = made
        return self.real((codes, name, ""), axis=0)

    def put(
        self, kind: str, node: onnx.NodeProto, inputs: Sequence[str], out: tuple[str, str]
    ) -> None:
        """The float operator with the attributes of the node, and its QuantizeLinear."""
        own = {"channels_last"}
        attributes = [a for a in node.attribute if a.name not in own]
        real = f"{node.output[0]}.float" if out[0] else node.output[0]
        made = helper.make_node(kind, list(inputs), [real], name=node.name)
        made.attribute.extend(attributes)
        self.nodes.append(made)
        if out[0]:
            ins = [n for n in (real, *out) if n]
            name = f"{node.name}.quantize"
            self.nodes.append(helper.make_node("QuantizeLinear", ins, [node.output[0]], name=name))


def unfold(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without operators on codes that have scales of their own.

    Shapes behind those are found here: shape inference knows none of them.
    """
    if not any(node.op_type in _UNFOLD for node in model.graph.node):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    u = Unfolder(changed)
    for node in changed.graph.node:
        if node.op_type in _UNFOLD and len(node.input) > 3:
            _UNFOLD[node.op_type](u, node, [*node.input, "", "", ""])
        else:
            u.nodes.append(node)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in u.nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(changed, data_prop=True)


def _conv(u: Unfolder, node: onnx.NodeProto, i: list[str]) -> None:
    inputs = [u.real(i[0:3]), u.real(i[3:6], axis=0)]
    inputs += [u.bias(i[8], i[1], i[4])] if i[8] else []
    u.put("Conv", node, inputs, (i[6], i[7]))


def _matmul(u: Unfolder, node: onnx.NodeProto, i: list[str]) -> None:
    u.put("MatMul", node, [u.real(i[0:3]), u.real(i[3:6], axis=1)], (i[6], i[7]))


def _gemm(u: Unfolder, node: onnx.NodeProto, i: list[str]) -> None:
    across = any(a.name == "transB" and a.i for a in node.attribute)
    inputs = [u.real(i[0:3]), u.real(i[3:6], axis=0 if across else 1)]
    inputs += [u.bias(i[6], i[1], i[4])] if i[6] else []
    u.put("Gemm", node, inputs, (i[7], i[8]))


def _binary(kind: str) -> Callable[[Unfolder, onnx.NodeProto, list[str]], None]:
    def write(u: Unfolder, node: onnx.NodeProto, i: list[str]) -> None:
        u.put(kind, node, [u.real(i[0:3]), u.real(i[3:6])], (i[6], i[7]))

    return write


def _unary(kind: str) -> Callable[[Unfolder, onnx.NodeProto, list[str]], None]:
    def write(u: Unfolder, node: onnx.NodeProto, i: list[str]) -> None:
        u.put(kind, node, [u.real(i[0:3])], (i[3], i[4]))

    return write


def _concat(u: Unfolder, node: onnx.NodeProto, _: list[str]) -> None:
    given = list(node.input)
    parts = [u.real(given[k : k + 3]) for k in range(2, len(given) - 2, 3)]
    u.put("Concat", node, parts, (given[0], given[1]))


_UNFOLD: dict[str, Callable[[Unfolder, onnx.NodeProto, list[str]], None]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearAveragePool": _unary("AveragePool"),
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
}
