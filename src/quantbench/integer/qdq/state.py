"""What is known while a graph is read: operators so far, formats and shapes of their tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod

import onnx

from quantbench.errors import Unsupported
from quantbench.integer.ir import (
    Add,
    Dequantize,
    Flatten,
    Format,
    Lut,
    Mul,
    Op,
    Rearrange,
    Shape,
)
from quantbench.integer.qdq.graph import Graph
from quantbench.integer.qdq.layers import Layer

Sizes = tuple[int, ...]  # of one image's values, as a file sees them

_VALUE_BY_VALUE = (Add, Lut, Mul)


class State(ABC):
    """A program in the making.

    Attributes:
        graph: that is read.
        ops: of the program so far.
        tensors: name in the program, by that of the codes in the file.
        formats: by name in the program; ``shapes`` likewise.
        sizes: what the file sees, by name in the program, where that is no image (C, H, W).
        off: how far rounded biases lie from the file's, in steps of the sums, by layer.

    """

    def __init__(self, graph: Graph, shape: Shape) -> None:
        self.graph, self.ops = graph, list[Op]()
        self.tensors: dict[str, str] = {}
        self.formats: dict[str, Format] = {}
        self.shapes: dict[str, Shape] = {"input": shape}
        self.sizes: dict[str, Sizes] = {}
        self.off: dict[str, float] = {}

    def seen(self, x: str) -> Sizes:
        """Sizes of one image's values in the file."""
        return self.sizes.get(x, self.shapes[x])

    def push(self, op: Op) -> str:
        """Append an operator; the name of what it makes.

        Raises:
            Unsupported: an operator on images that reads something else.

        """
        if any(i in self.sizes for i in op.inputs):
            self._other_than_images(op)
        self.ops.append(op)
        self.shapes[op.output] = op.output_shape([self.shapes[i] for i in op.inputs])
        if op.out is not None:
            self.formats[op.output] = op.out
        return op.output

    def _other_than_images(self, op: Op) -> None:
        sizes = {self.seen(i) for i in op.inputs}
        value_by_value = isinstance(op, _VALUE_BY_VALUE) and len(sizes) == 1
        if not value_by_value and not isinstance(op, (Dequantize, Flatten, Rearrange)):
            said = " and ".join(map(str, sorted(sizes)))
            raise Unsupported(
                f"{self.graph.path}: node {op.name!r}: works on sizes {said} for each image; "
                "(C, H, W) is possible"
            )
        if value_by_value:
            self.sizes[op.output] = sizes.pop()

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
