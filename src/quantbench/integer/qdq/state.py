"""What is known while a graph is read: operators so far, formats and shapes of their tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod

import onnx

from quantbench.integer.ir import Format, Op, Shape
from quantbench.integer.qdq.graph import Graph
from quantbench.integer.qdq.layers import Layer


class State(ABC):
    """A program in the making.

    Attributes:
        graph: that is read.
        ops: of the program so far.
        tensors: name in the program, by that of the codes in the file.
        formats: by name in the program; ``shapes`` likewise.
        off: how far rounded biases lie from the file's, in steps of the sums, by layer.

    """

    def __init__(self, graph: Graph, shape: Shape) -> None:
        self.graph, self.ops = graph, list[Op]()
        self.tensors: dict[str, str] = {}
        self.formats: dict[str, Format] = {}
        self.shapes: dict[str, Shape] = {"input": shape}
        self.off: dict[str, float] = {}

    def push(self, op: Op) -> str:
        """Append an operator; the name of what it makes."""
        self.ops.append(op)
        self.shapes[op.output] = op.output_shape([self.shapes[i] for i in op.inputs])
        if op.out is not None:
            self.formats[op.output] = op.out
        return op.output

    def name(self, wanted: str) -> str:
        """A tensor's name that is still free."""
        while wanted in self.shapes:
            wanted += "'"
        return wanted

    @abstractmethod
    def kept(self, tensor: str) -> str | None:
        """The codes that a float tensor holds as they are; None where it holds other values."""

    @abstractmethod
    def need(self, node: onnx.NodeProto, tensor: str) -> str:
        """The codes that an operator reads.

        Raises:
            Unsupported: what it reads was not quantized.

        """

    @abstractmethod
    def layer(self, tensor: str) -> Layer | None:
        """The layer that makes a tensor, a constant added behind it included."""

    @abstractmethod
    def emit_layer(
        self,
        layer: Layer,
        residual: tuple[str, ...],
        y: Format | None,
        output: str,
        clamp: tuple[int, int] = (0, 255),
    ) -> str:
        """A layer on its quantized input."""
