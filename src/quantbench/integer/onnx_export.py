"""Integer programs as QDQ ONNX: a QuantizeLinear and DequantizeLinear pair at every tensor, which runtimes fuse.

Codes are uint8 and weights int8 (u8 x s8, the fast pair everywhere), or INT4 from opset 21 on. Bounds narrower than
uint8 (4-bit activations, ReLU6, ceilings per channel) are a Clip, Min or Max on the codes, so that runtimes still see
Conv between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantbench.errors import Unsupported
from quantbench.integer.check import check
from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Format,
    Island,
    Lut,
    MaxPool,
    Op,
    Pad,
    Program,
)
from quantbench.integer.onnx_graph import CodeGraph

OPSET, OPSET_INT4 = 17, 21
_INT4 = range(-8, 8)


def export(
    program: Program, *, int4: bool = False, split_residuals: bool = False, show: bool = False
) -> onnx.ModelProto:
    """ONNX model: float32 ``images`` (N, C, H, W) to float32 ``logits`` (N, outputs), any N.

    Args:
        program: what to export.
        int4: store weights of at most 4 bits as INT4 (opset 21). Half the bytes; runtimes then compute in floats.
        split_residuals: give the layer in front of a residual add an 8-bit tensor of its own. ONNX Runtime has no
            integer kernel for a convolution with an add, so without this it computes those layers in floats; with it,
            codes can differ by a step from the definition.
        show: make every tensor of codes an output, under its name in the program.

    Raises:
        Unsupported: an operator that ONNX does not have.

    """
    check(program)
    e = _Exporter(program, int4=int4, split_residuals=split_residuals)
    for op in program.ops:
        e.operator(op)
    shapes = program.shapes
    outs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", e.outputs])]
    if show:
        outs += [
            helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", *shapes[name]])
            for name, f in program.formats.items()
            if f is not None
        ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *program.shape])
    graph = helper.make_graph(e.nodes, "quantbench", [images], outs, list(e.constants.values()))
    opset = OPSET_INT4 if int4 else OPSET
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="quantbench")
    model.ir_version = 10 if int4 else 8
    onnx.checker.check_model(model, full_check=True)
    return model


def save(program: Program, path: Path, *, int4: bool = False, split_residuals: bool = False) -> None:
    """Write the file that a plain ONNX Runtime session loads; the arguments are those of ``export``."""
    onnx.save(export(program, int4=int4, split_residuals=split_residuals), path)


class _Exporter(CodeGraph):
    """Translates operators."""

    def __init__(self, program: Program, *, int4: bool, split_residuals: bool) -> None:
        super().__init__()
        self.int4, self.split = int4, split_residuals
        self.formats, self.shapes = program.formats, program.shapes
        self.outputs = int(np.prod(self.shapes[program.output]))
        self.quantize("images", program.input, "input")

    def operator(self, op: Op) -> None:  # noqa: C901 - a case an operator
        """Translate one operator."""
        match op:
            case Conv():
                self._conv(op)
            case Add():
                total = self.node("Add", [self._real(i) for i in op.inputs])
                self.quantize(total, _known(op.out), op.output, (op.lo, op.hi))
            case Concat():
                whole = self.node("Concat", [self._real(i) for i in op.inputs], axis=1)
                self.quantize(whole, _known(op.out), op.output)
            case MaxPool():
                kind = "AveragePool" if isinstance(op, AvgPool) else "MaxPool"
                extra: dict[str, Any] = {"count_include_pad": int(op.count_padding)} if isinstance(op, AvgPool) else {}
                pooled = self.node(kind, [self._real(op.inputs[0])], kernel_shape=list(op.kernel),
                                    strides=list(op.stride), pads=list(op.pads), **extra)  # fmt: skip
                self.quantize(pooled, _known(op.out), op.output, None if extra else (0, 255))
            case LRN():
                if op.size % 2 == 0:
                    raise Unsupported(f"{op.name}: ONNX centres an even LRN window of {op.size} elsewhere")
                y = self.node("LRN", [self._real(op.inputs[0])], size=op.size, alpha=op.alpha, beta=0.75, bias=op.k)
                self.quantize(y, _known(op.out), op.output)
            case Lut():
                index = self.node("Cast", [op.inputs[0]], to=TensorProto.INT32)
                self.node("Gather", [self.constant(f"{op.output}.table", op.table), index], output=op.output)
            case Pad():
                self._pad(op)
            case Flatten():
                self.node(
                    "Reshape",
                    [op.inputs[0], self.ints(f"{op.output}.shape", [-1, *self.shapes[op.output]])],
                    output=op.output,
                )
            case Dequantize():
                self._logits(self._real(op.inputs[0]))
            case Island():
                raise Unsupported(f"{op.name} runs in floats ({op.reason}); such a network cannot be exported")

    def _conv(self, op: Conv) -> None:
        x, shape = op.inputs[0], self.shapes[op.inputs[0]]
        linear = shape[1:] == (1, 1) and op.weight.shape[2:] == (1, 1) and op.groups == 1 and not any(op.pads)
        weight = self._weight(op, linear=linear)
        bias_scale = np.float32(_known(self.formats[x]).scale) * op.weight_scale
        bias = self.dequantized(f"{op.output}.bias", op.bias, bias_scale, axis=0)
        if linear:
            flat = self.node("Reshape", [x, self.ints(f"{op.output}.vector", [-1, shape[0]])])
            f = _known(self.formats[x])
            t = self.node("Gemm", [self.dequantize(flat, f), weight, bias])
        else:
            t = self.node(
                "Conv",
                [self._real(x), weight, bias],
                strides=list(op.stride),
                pads=list(op.pads),
                dilations=list(op.dilation),
                group=op.groups,
                kernel_shape=list(op.weight.shape[2:]),
            )
        if op.out is None:
            self._logits(t, flat=linear)
            return
        y = op.out
        if len(op.inputs) > 1:
            if self.split:
                t = self._split(t, op, y, linear=linear)
            elif linear:
                t = self._map(t, op)
            t = self.node("Add", [t, self._real(op.inputs[1])])
            self.quantize(t, y, op.output, (op.lo, op.hi))
        elif linear:
            codes = self.quantize(t, y, f"{op.output}.vector")
            codes = self._map(codes, op)
            self.clip(codes, (op.lo, op.hi), op.output)
        else:
            self.quantize(t, y, op.output, (op.lo, op.hi))

    def _split(self, t: str, op: Conv, y: Format, *, linear: bool) -> str:
        """Codes of a layer's own output, over all values that the add's clamp keeps: only steps are lost."""
        r = _known(self.formats[op.inputs[1]])
        low = (y.lo - y.zero) * y.scale - (r.hi - r.zero) * r.scale
        high = (y.hi - y.zero) * y.scale - (r.lo - r.zero) * r.scale
        scale = (high - low) / 255
        f = Format(scale, int(np.clip(np.rint(-low / scale), 0, 255)))
        codes = self.quantize(t, f, f"{op.output}.branch")
        if linear:
            codes = self._map(codes, op)
        return self.dequantize(codes, f)

    def _map(self, vector: str, op: Op) -> str:
        """(N, K) as (N, K, 1, 1)."""
        return self.node("Reshape", [vector, self.ints(f"{op.output}.map", [-1, *self.shapes[op.output]])])

    def _weight(self, op: Conv, *, linear: bool) -> str:
        v = op.weight.astype(np.int64) - op.weight_zero[:, None, None, None]
        codes, zeros = v, np.zeros(len(v), np.int64)
        narrow = self.int4 and op.weight.min() in _INT4 and op.weight.max() in _INT4
        low, high = (-8, 7) if narrow else (-128, 127)
        if v.min() < low or v.max() > high:
            codes, zeros = op.weight.astype(np.int64), op.weight_zero.astype(np.int64)
            if zeros.min() < low or zeros.max() > high:
                raise Unsupported(
                    f"{op.name}: weight zero points {zeros.min()}..{zeros.max()} do not fit the weights' type"
                )
        if linear:
            codes = codes[:, :, 0, 0].T
        name, axis = f"{op.output}.weight", int(linear)
        return self.dequantized(
            name, codes.astype(np.int8), op.weight_scale, axis, zeros.astype(np.int8), narrow=narrow
        )

    def _real(self, name: str) -> str:
        """A tensor of codes behind a DequantizeLinear of its own, as fusing runtimes want it."""
        return self.dequantize(name, _known(self.formats[name]))

    def _pad(self, op: Pad) -> None:
        f, x = _known(op.out), op.inputs[0]
        front, back, top, left, bottom, right = op.pads
        if op.stride != (1, 1):
            slices = ([0, 0], [2**31 - 1] * 2, [2, 3], list(op.stride))
            x = self.node("Slice", [x, *(self.ints(f"{op.output}.slice{i}", v) for i, v in enumerate(slices))])
        amounts = self.ints(f"{op.output}.pads", [0, front, top, left, 0, back, bottom, right])
        zero = self.constant(f"{op.output}.value", np.array(f.zero, np.uint8))
        self.node("Pad", [x, amounts, zero], output=op.output)

    def _logits(self, t: str, *, flat: bool = False) -> None:
        if flat:
            self.node("Identity", [t], output="logits")
        else:
            self.node("Reshape", [t, self.ints("logits.shape", [-1, self.outputs])], output="logits")


def _known(f: Format | None) -> Format:
    assert f is not None
    return f
