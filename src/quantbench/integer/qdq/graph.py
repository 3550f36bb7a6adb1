"""A quantized ONNX graph, looked up by tensor: who makes it, who reads it, what is constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.errors import Unsupported
from quantbench.integer.ir import Format
from quantbench.network.onnx_files.reading import called

Array = NDArray[Any]

SHIFT = {"uint8": 0, "int8": 128}  # from codes of the file to codes of a program


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in order, and what is known of their tensors.

    Attributes:
        path: of the file, for messages.
        nodes: in order.
        makers: node that makes a tensor, by the tensor's name.
        constants: arrays by name.
        readers: how many nodes read a tensor.
        sizes: of a tensor, images first, where shape inference found them; 0 where one is open.
        unsigned: tensors of uint8, as far as shape inference found them.
        input: name of the network's input; ``output`` of its output.

    """

    path: Path
    nodes: tuple[onnx.NodeProto, ...]
    makers: Mapping[str, onnx.NodeProto]
    constants: Mapping[str, Array]
    readers: Mapping[str, int]
    sizes: Mapping[str, tuple[int, ...]]
    unsigned: frozenset[str]
    input: str
    output: str

    @classmethod
    def of(cls, model: onnx.ModelProto, path: Path) -> Graph:
        """Index a model that was read and unfolded."""
        g = model.graph
        constants = {i.name: numpy_helper.to_array(i) for i in g.initializer}
        makers = {name: node for node in g.node for name in node.output if name}
        values = (*g.value_info, *g.input, *g.output)
        sizes = {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in values
            if v.type.tensor_type.HasField("shape")
        }
        uint8 = onnx.TensorProto.UINT8
        unsigned = frozenset(v.name for v in values if v.type.tensor_type.elem_type == uint8)
        readers = Counter(name for node in g.node for name in node.input)
        (given,) = [i.name for i in g.input if i.name not in constants]
        known = makers, constants, readers, sizes, unsigned
        return cls(path, tuple(g.node), *known, given, g.output[0].name)

    @property
    def batch(self) -> int:
        """Images that the file takes at a time; 0 where that is open."""
        return self.sizes[self.input][0]

    def refuse(self, node: onnx.NodeProto, why: str) -> Unsupported:
        """The error that a node has no exact integer form, to be raised."""
        return Unsupported(f"{self.path}: {called(node)}: {why}")

    def kind(self, tensor: str) -> str:
        """Operator that makes a tensor; empty for inputs and constants."""
        return self.makers[tensor].op_type if tensor in self.makers else ""

    def format(self, node: onnx.NodeProto) -> Format:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear of an activation.

        Raises:
            Unsupported: several scales, other types than 8-bit integers, numbers that the graph
                computes.

        """
        scale, zero = self.scale(node)
        if scale.size != 1 or zero.size != 1:
            raise self.refuse(node, f"{scale.size} scales of one activation; one is possible")
        kind = zero.dtype.name
        if kind not in SHIFT:
            raise self.refuse(node, f"activations of type {kind}; uint8 and int8 are possible")
        number = float(scale.reshape(())[()])
        if not (np.isfinite(number) and number > 0):
            raise self.refuse(node, f"scale {number}: it has to be positive and finite")
        return Format(number, int(zero.reshape(())[()]) + SHIFT[kind])

    def format_behind(self, node: onnx.NodeProto) -> Format:
        """In which format what reads a node's codes takes them; any, where only tables do.

        Raises:
            Unsupported: nothing takes them, or some otherwise than others.

        """
        found, at, tables = set[Format](), list(node.output), False
        while at:
            tensor = at.pop()
            for reader in self.nodes:
                if tensor not in reader.input[:1]:
                    continue
                if reader.op_type == "DequantizeLinear":
                    found.add(self.format(reader))
                elif reader.op_type != "Cast":
                    at.extend(reader.output)
                else:
                    tables = True
        if not found and tables:
            return Format(1.0, 0)
        if len(found) != 1:
            raise self.refuse(node, f"its codes are read in {len(found)} formats; one is possible")
        return found.pop()

    def scale(self, node: onnx.NodeProto) -> tuple[Array, Array]:
        """Scales and zero points of a quantizing node, constants that they are."""
        if attribute(node, "block_size", 0):
            raise self.refuse(node, "scales for blocks")
        names = [*node.input[1:3]]
        if any(n and n not in self.constants for n in names):
            raise self.refuse(node, "its scale or zero point is no constant")
        scale = np.asarray(self.constants[names[0]])
        if scale.dtype != np.float32:
            raise self.refuse(node, f"its scale is {scale.dtype.name}, not float32")
        zero = self.constants[names[1]] if len(names) > 1 and names[1] else np.uint8(0)
        return scale, np.asarray(zero)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or what holds without it."""
    for a in node.attribute:
        if a.name == name:
            value = helper.get_attribute_value(a)
            return value.decode() if isinstance(value, bytes) else value
    return default


def pairs(values: Sequence[int]) -> tuple[int, int]:
    """Two numbers, of a window."""
    down, across = values
    return int(down), int(across)
