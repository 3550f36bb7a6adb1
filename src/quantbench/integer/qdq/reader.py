"""From a quantized graph to an integer program.

Every QuantizeLinear says in which format the floats in front of it are made, as a quantizer of our
own does (``integer.lowering``). What lies between two of them is one operator with its activation
function, or a function of one tensor, which becomes a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from quantbench.integer import ir
from quantbench.integer.ir import Format, Shape
from quantbench.integer.qdq import functions, shaping
from quantbench.integer.qdq.constants import constant_codes
from quantbench.integer.qdq.graph import Graph
from quantbench.integer.qdq.islands import softmax
from quantbench.integer.qdq.layers import LAYERS, Layer, operator, read_layer
from quantbench.integer.qdq.state import State
from quantbench.integer.qdq.tables import Table, Tables
from quantbench.integer.qdq.windows import interpolation_of

Clamp = tuple[float, float]  # of real values

_OPEN: Clamp = (-math.inf, math.inf)

_PASS = ("Identity", "Dropout")

_READS = ("Cast", "DequantizeLinear")  # codes, and makes something else of them


class Reader(State):
    """Appends operators, node by node."""

    def __init__(self, graph: Graph, shape: Shape) -> None:
        super().__init__(graph, shape)
        self.tables = Tables(self)

    def program(self) -> ir.Program:
        """Read every node in order."""
        for node in self.graph.nodes:
            if node.op_type == "QuantizeLinear":
                if node.input[0] not in self.graph.constants:
                    y = self.graph.format(node)
                    self.tensors[node.output[0]] = self.emit(node.input[0], y, node.output[0])
            elif node.op_type == "Gather" and (found := self.tables.stored(node)) is not None:
                self.tensors[node.output[0]] = found
            elif node.input and node.input[0] in self.tensors and node.op_type not in _READS:
                made = shaping.on_codes(self, node, self.tensors[node.input[0]], real=False)
                self.tensors[node.output[0]] = made
        shaping.output(self)
        return ir.Program(self.formats["input"], self.shapes["input"], tuple(self.ops))

    def emit(self, tensor: str, y: Format, output: str) -> str:
        """Make a float tensor's values in a given format; the name of what holds them."""
        inner, clamp = self._without_clamps(tensor)
        if inner == self.graph.input:
            return self._input(tensor, y)
        kept = self.kept(inner)
        if kept is not None and clamp == _OPEN and self.formats[kept] == y:
            return kept
        if (table := self.tables.of(tensor)) is not None:
            return self._lut(table, y, output)
        node = self.graph.makers.get(inner)
        if node is None:
            raise self.graph.refuse(self.graph.makers[tensor], f"quantizes a constant {inner!r}")
        if kept is not None:
            raise self.graph.refuse(node, "is quantized again behind an operator on codes")
        kind = "Resize" if interpolation_of(self.graph, node) else node.op_type
        if kind in LAYERS or kind == "Add":
            return self._sum(inner, y, output, self._codes(clamp, y))
        if kind in _EMIT:
            made = _EMIT[kind](self, node, y, output)
            return made if clamp == _OPEN else self._clamped(made, clamp, output)
        if node.op_type in shaping.KEEPS:  # of what has no format yet: rounding does not mind them
            made = self.emit(node.input[0], y, f"{output}.whole")
            made = shaping.on_codes(self, node, made, real=False)
            return made if clamp == _OPEN else self._clamped(made, clamp, output)
        raise self.graph.refuse(node, "has no exact integer form here")

    def kept(self, tensor: str) -> str | None:
        """The codes that a float tensor holds as they are; None where it holds other values."""
        node = self.graph.makers.get(tensor)
        if node is None:
            return None
        if node.op_type == "DequantizeLinear":
            found = self.tensors.get(node.input[0])
            if found is not None and self.graph.format(node) != self.formats[found]:
                raise self.graph.refuse(
                    node, "reads codes under another scale or zero point than they were made with"
                )
            return found
        if node.op_type in _PASS:
            return self.kept(node.input[0])
        if tensor not in self.tensors:
            made = self._kept_behind(node)
            if made is None:
                return None
            self.tensors[tensor] = made
        return self.tensors[tensor]

    def _kept_behind(self, node: onnx.NodeProto) -> str | None:
        """Codes behind an operator that keeps the format of what it reads."""
        if node.op_type in shaping.KEEPS:
            x = self.kept(node.input[0])
            return None if x is None else shaping.on_codes(self, node, x, real=True)
        if node.op_type != "Concat":
            return None
        parts = [self.kept(n) for n in node.input]
        found = [p for p in parts if p is not None]
        if len(found) < len(parts) or len({self.formats[p] for p in found}) > 1:
            return None
        return shaping.joined(self, node, found, self.formats[found[0]], node.output[0])

    def need(self, node: onnx.NodeProto, tensor: str) -> str:
        """The codes that an operator reads.

        Raises:
            Unsupported: what it reads was not quantized.

        """
        found = self.kept(tensor)
        if found is None:
            table = self.tables.of(tensor)
            if table is not None and table.clamps_only:
                return self._lut(table, self.formats[table.codes], f"{tensor}.clamped")
            raise self.graph.refuse(node, f"reads {tensor!r}, which is not quantized")
        return found

    def _input(self, tensor: str, y: Format) -> str:
        if tensor != self.graph.input or self.formats.get("input", y) != y:
            raise self.graph.refuse(
                self.graph.makers.get(tensor, self.graph.nodes[0]),
                "the network's input is quantized twice, each time otherwise, or changed before",
            )
        self.formats["input"] = y
        return "input"

    def _without_clamps(self, tensor: str) -> tuple[str, Clamp]:
        """What is in front of Relu and Clip, and their bounds together."""
        low, high = _OPEN
        while self.graph.kind(tensor) in ("Relu", "Clip", *_PASS):
            node = self.graph.makers[tensor]
            if node.op_type not in _PASS:
                a, b = functions.bounds(self.graph, node)
                low, high = min(max(a, low), high), max(min(b, high), low)
            tensor = node.input[0]
        return tensor, (low, high)

    def _codes(self, clamp: Clamp, y: Format) -> tuple[int, int]:
        """The lowest and highest code under a clamp."""
        low, high = functions.quantize(np.array(clamp, np.float32), y)
        return int(low), int(high)

    def _clamped(self, x: str, clamp: Clamp, output: str) -> str:
        y = self.formats[x]
        table = np.clip(np.arange(256), *self._codes(clamp, y)).astype(np.uint8)
        made = self.name(f"{output}.clamped")
        return self.push(ir.Lut(name=output, inputs=(x,), output=made, out=y, table=table))

    def _lut(self, table: Table, y: Format, output: str) -> str:
        made, codes = self.name(output), functions.quantize(table.values, y)
        self.tables.made[made] = table.codes, codes
        return self.push(
            ir.Lut(name=output, inputs=(table.codes,), output=made, out=y, table=codes)
        )

    def _sum(self, tensor: str, y: Format, output: str, clamp: tuple[int, int]) -> str:
        """A layer, a layer with a residual, or a sum of two quantized tensors."""
        layer = self.layer(tensor)
        if layer is not None:
            return self.emit_layer(layer, (), y, output, clamp)
        node = self.graph.makers[tensor]
        for own, other in (node.input, node.input[::-1]):
            layer = self.layer(own)
            if layer is not None and self.kept(other) is not None:
                return self.emit_layer(layer, (self.need(node, other),), y, output, clamp)
        if any(constant_codes(self.graph, n) or n in self.graph.constants for n in node.input):
            raise self.graph.refuse(node, "adds a constant to codes; there is no such operator")
        inputs = tuple(self.need(node, n) for n in node.input)
        if len({self.shapes[i] for i in inputs}) > 1:
            shapes = " and ".join(str(self.shapes[i]) for i in inputs)
            raise self.graph.refuse(node, f"adds the shapes {shapes}")
        about: dict[str, Any] = {"name": node.name or output, "output": self.name(output)}
        return self.push(ir.Add(**about, inputs=inputs, out=y, lo=clamp[0], hi=clamp[1]))

    def layer(self, tensor: str) -> Layer | None:
        """The layer that makes a tensor, a constant added behind it included."""
        node = self.graph.makers.get(tensor)
        if node is None:
            return None
        if node.op_type in LAYERS:
            return read_layer(self.graph, node)
        if node.op_type != "Add":
            return None
        for own, other in (node.input, node.input[::-1]):
            inner = self.graph.makers.get(own)
            constant = other in self.graph.constants or constant_codes(self.graph, other)
            if constant and inner is not None and inner.op_type in ("MatMul", "Gemm"):
                return read_layer(self.graph, inner, other)
        return None

    def emit_layer(
        self,
        layer: Layer,
        residual: tuple[str, ...],
        y: Format | None,
        output: str,
        clamp: tuple[int, int] = (0, 255),
    ) -> str:
        """A layer on its quantized input."""
        x = self.need(layer.node, layer.node.input[0])
        shape = self.shapes[x]
        if layer.node.op_type != "Conv" and shape[1:] != (1, 1):
            raise self.graph.refuse(layer.node, f"multiplies maps of the shape {shape}")
        inputs, made = (x, *residual), self.name(output)
        op, off = operator(self.graph, layer, inputs, self.formats[x], shape, y, made, clamp)
        self.off[op.name] = off
        return self.push(op)


def _concat(r: Reader, node: onnx.NodeProto, y: Format, output: str) -> str:
    """Parts that are not quantized on their own are made in the format of the whole."""
    parts = []
    for i, tensor in enumerate(node.input):
        found = r.kept(tensor)
        parts.append(r.emit(tensor, y, f"{output}.{i}") if found is None else found)
    return shaping.joined(r, node, parts, y, output)


def _pooled(r: Reader, node: onnx.NodeProto, y: Format, output: str) -> str:
    """A mean; of a concatenation, the means of its parts, each in the format of the whole."""
    whole = r.graph.makers.get(node.input[0])
    if whole is None or whole.op_type != "Concat" or r.kept(node.input[0]) is not None:
        return shaping.average(r, node, node.input[0], y, output)
    parts = [shaping.average(r, node, n, y, f"{output}.{i}") for i, n in enumerate(whole.input)]
    return shaping.joined(r, whole, parts, y, output)


_EMIT: dict[str, Callable[[Reader, onnx.NodeProto, Format, str], str]] = {
    "Concat": _concat,
    "Mul": shaping.product,
    "AveragePool": _pooled,
    "GlobalAveragePool": _pooled,
    "ReduceMean": _pooled,
    "Softmax": softmax,
    "LRN": shaping.normalized,
    "Resize": shaping.resized,
}
