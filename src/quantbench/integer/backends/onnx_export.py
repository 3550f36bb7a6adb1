"""Integer programs as QDQ ONNX: a QuantizeLinear and DequantizeLinear pair at every tensor, which runtimes fuse.

Codes are uint8 and weights int8 (u8 x s8, the fast pair everywhere), or INT4 from opset 21 on.
Bounds narrower than uint8 (4-bit activations, ReLU6, ceilings per channel) are a Clip, Min or Max
on the codes, so that runtimes still see Conv between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantbench.errors import Unsupported
from quantbench.integer.backends.onnx_layer import LayerGraph, known
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
    Op,
    Pad,
    Program,
)
from quantbench.integer.validate import validate

OPSET, OPSET_INT4 = 17, 21


def export(
    program: Program, *, int4: bool = False, split_residuals: bool = False, show: bool = False
) -> onnx.ModelProto:
    """ONNX model: float32 ``images`` (N, C, H, W) to ``logits`` (N, outputs), float32 or the last codes, any N.

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
    e = _Exporter(program, int4=int4, split_residuals=split_residuals)
    for op in program.ops:
        e.operator(op)
    e.finish()
    shapes = program.shapes
    kind = TensorProto.FLOAT if program.formats[program.output] is None else TensorProto.UINT8
    outs = [helper.make_tensor_value_info("logits", kind, ["N", e.outputs])]
    if show:
        outs += [
            helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", *shapes[name]])
            for name, f in program.formats.items()
            if f is not None
        ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *program.shape])
    graph = helper.make_graph(e.nodes, "quantbench", [images], outs, list(e.constants.values()))
    opset = OPSET_INT4 if int4 else OPSET
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="quantbench"
    )
    model.ir_version = 10 if int4 else 8
    onnx.checker.check_model(model, full_check=True)
    return model


def save(
    program: Program, path: Path, *, int4: bool = False, split_residuals: bool = False
) -> None:
    """Write the file that a plain ONNX Runtime session loads; the arguments are those of ``export``."""
    onnx.save(export(program, int4=int4, split_residuals=split_residuals), path)


class _Exporter(LayerGraph):
    """Translates operators."""

    def __init__(self, program: Program, *, int4: bool, split_residuals: bool) -> None:
        super().__init__(program, int4=int4, split_residuals=split_residuals)
        self.outputs = int(np.prod(self.shapes[program.output]))
        self.quantize("images", program.input, "input")

    def operator(self, op: Op) -> None:  # noqa: C901 - a case an operator
        """Translate one operator."""
        self.last = op.output
        match op:
            case Conv():
                self.conv(op)
            case Add():
                total = self.node("Add", [self.real(i) for i in op.inputs])
                self.quantize(total, known(op.out), op.output, (op.lo, op.hi))
            case Concat():
                whole = self.node("Concat", [self.real(i) for i in op.inputs], axis=1)
                self.quantize(whole, known(op.out), op.output)
            case MaxPool():
                kind = "AveragePool" if isinstance(op, AvgPool) else "MaxPool"
                extra: dict[str, Any] = (
                    {"count_include_pad": int(op.count_padding)} if isinstance(op, AvgPool) else {}
                )
                pooled = self.node(kind, [self.real(op.inputs[0])], kernel_shape=list(op.kernel),
                                    strides=list(op.stride), pads=list(op.pads), **extra)  # fmt: skip
                self.quantize(pooled, known(op.out), op.output, None if extra else (0, 255))
            case LRN():
                if op.size % 2 == 0:
                    raise Unsupported(
                        f"{op.name}: ONNX centres an even LRN window of {op.size} elsewhere"
                    )
                y = self.node(
                    "LRN",
                    [self.real(op.inputs[0])],
                    size=op.size,
                    alpha=op.alpha,
                    beta=0.75,
                    bias=op.k,
                )
                self.quantize(y, known(op.out), op.output)
            case Lut():
                index = self.node("Cast", [op.inputs[0]], to=TensorProto.INT32)
                self.node(
                    "Gather",
                    [self.constant(f"{op.output}.table", op.table), index],
                    output=op.output,
                )
            case Pad():
                self._pad(op)
            case Flatten():
                self.node(
                    "Reshape",
                    [op.inputs[0], self.ints(f"{op.output}.shape", [-1, *self.shapes[op.output]])],
                    output=op.output,
                )
            case Dequantize():
                self.last = self.real(op.inputs[0])
            case Island():
                raise Unsupported(
                    f"{op.name} runs in floats ({op.reason}); such a network cannot be exported"
                )

    def _pad(self, op: Pad) -> None:
        f, x = known(op.out), op.inputs[0]
        front, back, top, left, bottom, right = op.pads
        if op.stride != (1, 1):
            slices = ([0, 0], [2**31 - 1] * 2, [2, 3], list(op.stride))
            x = self.node(
                "Slice", [x, *(self.ints(f"{op.output}.slice{i}", v) for i, v in enumerate(slices))]
            )
        amounts = self.ints(f"{op.output}.pads", [0, front, top, left, 0, back, bottom, right])
        zero = self.constant(f"{op.output}.value", np.array(f.zero, np.uint8))
        self.node("Pad", [x, amounts, zero], output=op.output)

    def finish(self) -> None:
        """Give the last tensor its name and shape."""
        self.node(
            "Reshape", [self.last, self.ints("logits.shape", [-1, self.outputs])], output="logits"
        )
