"""Integer programs as QDQ ONNX.

QDQ: a QuantizeLinear and DequantizeLinear pair at every tensor, which runtimes fuse.

Codes are uint8 and weights int8 (u8 x s8, the fast pair everywhere), or INT4 from opset 21 on.
Bounds narrower than uint8 (4-bit activations, ReLU6, ceilings per channel) are a Clip, Min or Max
on the codes, so that runtimes still see Conv between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantbench.errors import Unsupported
from quantbench.integer.backends.onnx.islands import nodes_of
from quantbench.integer.backends.onnx.layer import LayerGraph
from quantbench.integer.dispatch import entry
from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Island,
    Lut,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pool,
    Program,
    Rearrange,
    Resize,
    Select,
)
from quantbench.integer.scales import interpolation, known
from quantbench.integer.validate import validate
from quantbench.system.atomic import write_atomically

OPSET, OPSET_INT4 = 17, 21


def export(
    program: Program, *, int4: bool = False, split_residuals: bool = False, show: bool = False
) -> onnx.ModelProto:
    """ONNX model from float32 ``images`` (N, C, H, W) to ``logits`` (N, outputs), for any N.

    Logits are float32, or the last codes of a program that ends in codes.

    Args:
        program: what to export.
        int4: store weights of at most 4 bits as INT4 (opset 21). Half the bytes; runtimes then
            compute in floats.
        split_residuals: give the layer in front of a residual add an 8-bit tensor of its own. ONNX
            Runtime has no integer kernel for a convolution with an add, so without this it computes
            those layers in floats; with it, codes can differ by a step from the definition.
        show: make every tensor of codes an output, under its name in the program.

    Raises:
        Unsupported: an operator that ONNX does not have.

    """
    validate(program)
    e = Exporter(program, int4=int4, split_residuals=split_residuals)
    for op in program.ops:
        e.last = op.output
        entry(TRANSLATE, op, "ONNX")(e, op)
    e.finish()
    kind = TensorProto.FLOAT if program.formats[program.output] is None else TensorProto.UINT8
    outs = [helper.make_tensor_value_info("logits", kind, ["N", e.outputs])]
    if show:
        shown = {name: shape for name, shape in program.shapes.items() if program.formats[name]}
        outs += [
            helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", *shape])
            for name, shape in shown.items()
        ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *program.shape])
    graph = helper.make_graph(e.nodes, "quantbench", [images], outs, list(e.constants.values()))
    opset = helper.make_opsetid("", OPSET_INT4 if int4 else OPSET)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="quantbench")
    model.ir_version = 10 if int4 else 8
    onnx.checker.check_model(model, full_check=True)
    return model


def save(
    program: Program, path: Path, *, int4: bool = False, split_residuals: bool = False
) -> None:
    """Write the file that a plain ONNX Runtime session loads.

    The arguments are those of ``export``.

    Raises:
        CannotWrite: the system refuses; an earlier file is as it was.

    """
    found = export(program, int4=int4, split_residuals=split_residuals)
    write_atomically(path, found.SerializeToString())


class Exporter(LayerGraph):
    """Translates operators; ``conv`` is the layers'."""

    def __init__(self, program: Program, *, int4: bool, split_residuals: bool) -> None:
        super().__init__(program, int4=int4, split_residuals=split_residuals)
        self.outputs = int(np.prod(self.shapes[program.output]))
        self.quantize("images", program.input, "input")

    def add(self, op: Add) -> None:
        """A sum of floats."""
        total = self.node("Add", [self.real(i) for i in op.inputs])
        self.quantize(total, known(op.out), op.output, (op.lo, op.hi))

    def mul(self, op: Mul) -> None:
        """A product of floats; ONNX stretches sizes of 1 in the same way."""
        product = self.node("Mul", [self.real(i) for i in op.inputs])
        self.quantize(product, known(op.out), op.output)

    def concat(self, op: Concat) -> None:
        """Floats side by side."""
        whole = self.node("Concat", [self.real(i) for i in op.inputs], axis=1)
        self.quantize(whole, known(op.out), op.output)

    def max_pool(self, op: MaxPool) -> None:
        """Codes stay codes of their own, so nothing is clamped."""
        self.quantize(self._pool("MaxPool", op), known(op.out), op.output, (0, 255))

    def avg_pool(self, op: AvgPool) -> None:
        """Means of floats."""
        mean = self._pool("AveragePool", op, count_include_pad=int(op.count_padding))
        self.quantize(mean, known(op.out), op.output)

    def _pool(self, kind: str, op: Pool, **extra: Any) -> str:
        window: dict[str, Any] = {
            "kernel_shape": list(op.kernel),
            "strides": list(op.stride),
            "pads": list(op.pads),
        }
        return self.node(kind, [self.real(op.inputs[0])], **window, **extra)

    def lrn(self, op: LRN) -> None:
        """ONNX centres windows, and an even one it centres elsewhere."""
        if op.size % 2 == 0:
            raise Unsupported(f"{op.name}: ONNX centres an even LRN window of {op.size} elsewhere")
        numbers: dict[str, Any] = {"size": op.size, "alpha": op.alpha, "beta": 0.75, "bias": op.k}
        y = self.node("LRN", [self.real(op.inputs[0])], **numbers)
        self.quantize(y, known(op.out), op.output)

    def lut(self, op: Lut) -> None:
        """A gather from the table."""
        index = self.node("Cast", [op.inputs[0]], to=TensorProto.INT32)
        table = self.constant(f"{op.output}.table", op.table)
        self.node("Gather", [table, index], output=op.output)

    def pad(self, op: Pad) -> None:
        """A slice for the subsampling, then the zero point around."""
        f, x = known(op.out), op.inputs[0]
        front, back, top, left, bottom, right = op.pads
        if op.stride != (1, 1):
            # starts, ends, axes and steps
            slices = ([0, 0], [2**31 - 1] * 2, [2, 3], list(op.stride))
            ends = [self.ints(f"{op.output}.slice{i}", v) for i, v in enumerate(slices)]
            x = self.node("Slice", [x, *ends])
        # at the beginning of every dimension, then at the end
        amounts = self.ints(f"{op.output}.pads", [0, front, top, left, 0, back, bottom, right])
        zero = self.constant(f"{op.output}.value", np.array(f.zero, np.uint8))
        self.node("Pad", [x, amounts, zero], output=op.output)

    def select(self, op: Select) -> None:
        """A gather of channels."""
        index = self.ints(f"{op.output}.channels", list(op.channels))
        self.node("Gather", [op.inputs[0], index], output=op.output, axis=1)

    def rearrange(self, op: Rearrange) -> None:
        """A change of shape, a transposition, a change of shape."""
        split = self.ints(f"{op.output}.split", [-1, *op.split])
        x = self.node("Reshape", [op.inputs[0], split])
        x = self.node("Transpose", [x], perm=[0, *(a + 1 for a in op.axes)])
        shape = self.ints(f"{op.output}.shape", [-1, *op.into])
        self.node("Reshape", [x, shape], output=op.output)

    def resize(self, op: Resize) -> None:
        """A product with a matrix of weights on either side: sizes of batches stay open."""
        real, sides = self.real(op.inputs[0]), self.shapes[op.inputs[0]][1:]
        for name, n, m in zip(("rows", "columns"), sides, op.size, strict=True):
            weights = interpolation(n, m, align_corners=op.align_corners)
            rows = name == "rows"
            matrix = self.constant(f"{op.output}.{name}", weights if rows else weights.T.copy())
            real = self.node("MatMul", [matrix, real] if rows else [real, matrix])
        if op.out is None:
            self.last = real
        else:
            self.quantize(real, op.out, op.output)

    def flatten(self, op: Flatten) -> None:
        """The order of the definition is ONNX's."""
        shape = self.ints(f"{op.output}.shape", [-1, *self.shapes[op.output]])
        self.node("Reshape", [op.inputs[0], shape], output=op.output)

    def dequantize_output(self, op: Dequantize) -> None:
        """Values of the codes are the logits."""
        self.last = self.real(op.inputs[0])

    def island(self, op: Island) -> None:
        """Its nodes between the values of its inputs and the codes of its result."""
        formats = [known(self.formats[i]) for i in op.inputs]
        opset = OPSET_INT4 if self.int4 else OPSET
        graph = nodes_of(op, formats, [self.shapes[i] for i in op.inputs], opset)
        given = {f"{op.output}/x{i}": self.real(name) for i, name in enumerate(op.inputs)}
        self.last = self.put(graph, given)
        if op.out is not None:
            self.quantize(self.last, op.out, op.output)
            self.last = op.output

    def finish(self) -> None:
        """Give the last tensor its name and shape."""
        shape = self.ints("logits.shape", [-1, self.outputs])
        self.node("Reshape", [self.last, shape], output="logits")


TRANSLATE: dict[type[Op], Callable[[Exporter, Any], None]] = {
    Conv: Exporter.conv,
    Add: Exporter.add,
    Mul: Exporter.mul,
    Concat: Exporter.concat,
    MaxPool: Exporter.max_pool,
    AvgPool: Exporter.avg_pool,
    LRN: Exporter.lrn,
    Lut: Exporter.lut,
    Pad: Exporter.pad,
    Select: Exporter.select,
    Rearrange: Exporter.rearrange,
    Resize: Exporter.resize,
    Flatten: Exporter.flatten,
    Dequantize: Exporter.dequantize_output,
    Island: Exporter.island,
}
