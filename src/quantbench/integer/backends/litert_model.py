"""Integer programs as LiteRT models."""

from __future__ import annotations

from typing import Any

import ai_edge_litert.schema_py_generated as tfl
import numpy as np
from numpy.typing import NDArray

from quantbench.errors import Unsupported
from quantbench.integer.backends.litert_windows import WindowGraph, known
from quantbench.integer.ir import (
    Add,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Format,
    MaxPool,
    Op,
    Pad,
    Program,
)
from quantbench.integer.lowering.formats import split_format
from quantbench.integer.validate import validate

NONE, RELU, RELU6 = 0, 1, 3

SPREADS = 6  # logits are covered to this many standard deviations of random inputs


def model(program: Program, batch: int, *, show: bool = False) -> bytes:
    """A model from float32 images (batch, H, W, C) to float32 logits (batch, outputs), or values (batch, H, W, C).

    LiteRT cannot do everything that the definition can: a layer in front of a residual add gets an
    8-bit tensor of its own, and so do the logits, for which LiteRT has no float32 form.

    Args:
        program: what to export.
        batch: images a call.
        show: give every tensor of codes too, in the program's order, as int8 (N, H, W, C).

    Raises:
        Unsupported: an operator or weights that LiteRT does not have.

    """
    validate(program)
    e = _Exporter(program, batch)
    for op in program.ops:
        e.operator(op)
    last = e.made[program.output]
    if program.formats[program.output] is not None:
        last = e.op("DEQUANTIZE", [last], e.image(e.shapes[program.output], None))
    shown = [e.made[name] for name, f in program.formats.items() if f is not None] if show else []
    return e.finish([e.images], [last, *shown])


class _Exporter(WindowGraph):
    """Translates operators."""

    def __init__(self, program: Program, batch: int) -> None:
        super().__init__(program, batch)
        self.images = self.image(program.shape, None)
        self.made = {
            "input": self.op("QUANTIZE", [self.images], self.image(program.shape, program.input))
        }

    def operator(self, op: Op) -> None:
        """Translate one operator."""
        x, f = self.made[op.inputs[0]], known(self.formats[op.inputs[0]])
        y = self.image(self.shapes[op.output], op.out)
        match op:
            case Conv():
                y = self._conv(op, x, f)
            case Add():
                y = self._add(
                    [self.made[i] for i in op.inputs], op.output, known(op.out), op.lo, op.hi
                )
            case Concat():
                parts = [self._requantized(i, known(op.out)) for i in op.inputs]
                self.op("CONCATENATION", parts, y, tfl.ConcatenationOptionsT(axis=3))
            case MaxPool():
                y = self.pool(op, x, f)
            case Pad():
                y = self.pad(op, x, f)
            case Flatten():
                order = self.constant(np.array([0, 3, 1, 2], np.int32))
                shape = self.shapes[op.inputs[0]]
                turned = self.op(
                    "TRANSPOSE",
                    [x, order],
                    self.tensor((self.batch, *shape), f),
                    tfl.TransposeOptionsT(),
                )
                self.reshape(turned, y)
            case Dequantize():
                vector = self.tensor((self.batch, int(np.prod(self.shapes[op.output]))), None)
                y = self.reshape(self.op("DEQUANTIZE", [x], y), vector)
            case _:
                raise Unsupported(f"{op.name}: LiteRT has no int8 form of {type(op).__name__}")
        self.made[op.output] = y

    def _conv(self, op: Conv, x: int, f: Format) -> int:
        v = op.weight.astype(np.int64) - op.weight_zero[:, None, None, None]
        if v.min() < np.iinfo(np.int8).min or v.max() > np.iinfo(np.int8).max:
            raise Unsupported(
                f"{op.name}: weights {v.min()}..{v.max()}; LiteRT's have no zero point"
            )
        bias = self.constant(op.bias, op.weight_scale * np.float32(f.scale))
        alone = (
            op.out
            if len(op.inputs) == 1
            else split_format(known(op.out), known(self.formats[op.inputs[1]]))
        )
        if op.out is None:
            return self._logits(op, v, x, f, bias)
        assert alone is not None
        out = self.image(self.shapes[op.output], alone)
        fused = self._activation(op, alone) if len(op.inputs) == 1 else NONE
        x, padding = self.padded(x, op.inputs[0], f, tuple(op.weight.shape[2:]), op)
        step = {"strideH": op.stride[0], "strideW": op.stride[1], "dilationHFactor": op.dilation[0],
                "dilationWFactor": op.dilation[1], "padding": padding, "fusedActivationFunction": fused}  # fmt: skip
        if op.groups > 1 and op.weight.shape[1] == 1:
            weight = self.constant(
                v.astype(np.int8).transpose(1, 2, 3, 0).copy(), op.weight_scale, axis=3
            )
            options = tfl.DepthwiseConv2DOptionsT(depthMultiplier=len(v) // op.groups, **step)
            out = self.op("DEPTHWISE_CONV_2D", [x, weight, bias], out, options)
        else:
            weight = self.constant(v.astype(np.int8).transpose(0, 2, 3, 1).copy(), op.weight_scale)
            out = self.op("CONV_2D", [x, weight, bias], out, tfl.Conv2DOptionsT(**step))
        if len(op.inputs) > 1:
            return self._add([out, self.made[op.inputs[1]]], op.output, known(op.out), op.lo, op.hi)
        return (
            out
            if fused != NONE or self.free(op.lo, op.hi)
            else self.clip(out, op.output, alone, op.lo, op.hi)
        )

    def _logits(self, op: Conv, v: NDArray[np.int64], x: int, f: Format, bias: int) -> int:
        """Fully connected, to 8 bits over what random inputs give, then to floats."""
        if op.groups != 1 or self.shapes[op.inputs[0]][1:] != (1, 1):
            raise Unsupported(
                f"{op.name}: LiteRT gives float logits only of a fully connected layer"
            )
        flat, scale = v.reshape(len(v), -1), op.weight_scale.astype(np.float64) * f.scale
        middle = (f.lo + f.hi) / 2 - f.zero
        centre = (flat.sum(1) * middle + op.bias) * scale
        spread = np.sqrt((flat * flat).sum(1)) * (f.hi - f.lo) / np.sqrt(12) * scale
        low, high = (
            float((centre - SPREADS * spread).min()),
            float((centre + SPREADS * spread).max()),
        )
        low, high = min(low, 0.0), max(high, 0.0)
        y = Format((high - low) / 255, int(np.rint(-low / (high - low) * 255)))
        shape = (self.batch, len(v))
        vector = self.reshape(x, self.tensor((self.batch, flat.shape[1]), f))
        weight = self.constant(flat.astype(np.int8), op.weight_scale)
        options = tfl.FullyConnectedOptionsT()
        codes = self.op("FULLY_CONNECTED", [vector, weight, bias], self.tensor(shape, y), options)
        return self.op("DEQUANTIZE", [codes], self.tensor(shape, None))

    def _add(self, inputs: list[int], name: str, y: Format, lo: Any, hi: Any) -> int:
        out = self.op(
            "ADD", inputs, self.image(self.shapes[name], y), tfl.AddOptionsT(potScaleInt16=False)
        )
        return out if self.free(lo, hi) else self.clip(out, name, y, lo, hi)

    def _activation(self, op: Conv, y: Format) -> int:
        """The activation function that gives a layer's bounds, if LiteRT has it."""
        six = int(np.clip(np.rint(np.float32(6) / np.float32(y.scale)) + y.zero, 0, 255))
        if (op.lo != y.zero).any():
            return NONE
        return RELU if (op.hi == 255).all() else RELU6 if (op.hi == six).all() else NONE

    def _requantized(self, name: str, y: Format) -> int:
        if self.formats[name] == y:
            return self.made[name]
        codes = self.op(
            "QUANTIZE", [self.made[name]], self.image(self.shapes[name], y), tfl.QuantizeOptionsT()
        )
        return self.bounded(codes, name, y)
