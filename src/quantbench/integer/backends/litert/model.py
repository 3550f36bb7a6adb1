"""Integer programs as LiteRT models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ai_edge_litert.schema_py_generated as tfl
import numpy as np
from numpy.typing import NDArray

from quantbench.errors import Unsupported
from quantbench.integer.backends.litert.windows import WindowGraph
from quantbench.integer.dispatch import entry
from quantbench.integer.ir import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Format,
    MaxPool,
    Op,
    Pad,
    Program,
    Resize,
    Select,
)
from quantbench.integer.scales import known, split_format
from quantbench.integer.validate import validate

NONE, RELU, RELU6 = 0, 1, 3

SPREADS = 6  # logits are covered to this many standard deviations of random inputs


def model(program: Program, batch: int, *, show: bool = False) -> bytes:
    """A model from float32 images (batch, H, W, C) to float32 logits (batch, outputs).

    A program that does not end in a vector gives values (batch, H, W, C).

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
    e = Exporter(program, batch)
    for op in program.ops:
        x, f = e.made[op.inputs[0]], known(e.formats[op.inputs[0]])
        e.made[op.output] = entry(TRANSLATE, op, "LiteRT")(e, op, x, f)
    last = e.made[program.output]
    if program.formats[program.output] is not None:
        last = e.op("DEQUANTIZE", [last], e.image(e.shapes[program.output], None))
    shown = [e.made[name] for name, f in program.formats.items() if f is not None] if show else []
    return e.finish([e.images], [last, *shown])


class Exporter(WindowGraph):
    """Translates operators: each from its first input, a tensor by number and its format."""

    def __init__(self, program: Program, batch: int) -> None:
        super().__init__(program, batch)
        self.images = self.image(program.shape, None)
        codes = self.op("QUANTIZE", [self.images], self.image(program.shape, program.input))
        self.made = {"input": codes}

    def add(self, op: Add, _: int, __: Format) -> int:
        """LiteRT's own add of two formats."""
        inputs = [self.made[i] for i in op.inputs]
        return self._add(inputs, op.output, known(op.out), op.lo, op.hi)

    def concat(self, op: Concat, _: int, __: Format) -> int:
        """All inputs in the output's format first."""
        y = known(op.out)
        parts = [self._requantized(i, y) for i in op.inputs]
        out = self.image(self.shapes[op.output], y)
        return self.op("CONCATENATION", parts, out, tfl.ConcatenationOptionsT(axis=3))

    def select(self, op: Select, x: int, f: Format) -> int:
        """A gather of channels, which come last."""
        index = self.constant(np.array(op.channels, np.int32))
        out = self.image(self.shapes[op.output], f)
        return self.op("GATHER", [x, index], out, tfl.GatherOptionsT(axis=3))

    def resize(self, op: Resize, x: int, f: Format) -> int:
        """In the input's format, as LiteRT demands, and rounded to it before the output's."""
        size, shape = self.constant(np.array(op.size, np.int32)), self.shapes[op.output]
        options = tfl.ResizeBilinearOptionsT(op.align_corners, not op.align_corners)
        codes = self.op("RESIZE_BILINEAR", [x, size], self.image(shape, f), options)
        if op.out is None:
            real = self.op("DEQUANTIZE", [codes], self.image(shape, None))
            return self.reshape(real, self.tensor((self.batch, int(np.prod(shape))), None))
        if op.out == f:
            return codes
        out = self.image(shape, op.out)
        made = self.op("QUANTIZE", [codes], out, tfl.QuantizeOptionsT())
        return self.bounded(made, op.output, op.out)

    def flatten(self, op: Flatten, x: int, f: Format) -> int:
        """Turned to (N, C, H, W) first: the definition's order is by channel, LiteRT's by pixel."""
        order = self.constant(np.array([0, 3, 1, 2], np.int32))
        turned = self.tensor((self.batch, *self.shapes[op.inputs[0]]), f)
        turned = self.op("TRANSPOSE", [x, order], turned, tfl.TransposeOptionsT())
        return self.reshape(turned, self.image(self.shapes[op.output], op.out))

    def dequantize(self, op: Dequantize, x: int, _: Format) -> int:
        """Values of codes, as a vector."""
        shape = self.shapes[op.output]
        real = self.op("DEQUANTIZE", [x], self.image(shape, None))
        return self.reshape(real, self.tensor((self.batch, int(np.prod(shape))), None))

    def conv(self, op: Conv, x: int, f: Format) -> int:
        """A layer; a residual is added to its 8-bit output."""
        v = op.weight.astype(np.int64) - op.weight_zero[:, None, None, None]
        if v.min() < np.iinfo(np.int8).min or v.max() > np.iinfo(np.int8).max:
            raise Unsupported(
                f"{op.name}: weights {v.min()}..{v.max()}; LiteRT's have no zero point"
            )
        bias = self.constant(op.bias, op.weight_scale * np.float32(f.scale))
        if op.out is None:
            return self._logits(op, v, x, f, bias)
        if len(op.inputs) == 1:
            fused = self._activation(op, op.out)
            codes = self._sums(op, v.astype(np.int8), x, f, bias, op.out, fused)
            if fused != NONE or self.free(op.lo, op.hi):
                return codes
            return self.clip(codes, op.output, op.out, op.lo, op.hi)
        alone = split_format(op.out, known(self.formats[op.inputs[1]]))
        codes = self._sums(op, v.astype(np.int8), x, f, bias, alone, NONE)
        return self._add([codes, self.made[op.inputs[1]]], op.output, op.out, op.lo, op.hi)

    def _sums(
        self, op: Conv, v: NDArray[np.int8], x: int, f: Format, bias: int, y: Format, fused: int
    ) -> int:
        """Codes of a convolution, depthwise where it is, in a format of their own."""
        out = self.image(self.shapes[op.output], y)
        x, padding = self.padded(x, op.inputs[0], f, tuple(op.weight.shape[2:]), op)
        step = {
            "strideH": op.stride[0],
            "strideW": op.stride[1],
            "dilationHFactor": op.dilation[0],
            "dilationWFactor": op.dilation[1],
            "padding": padding,
            "fusedActivationFunction": fused,
        }
        if op.groups > 1 and op.weight.shape[1] == 1:
            weight = self.constant(v.transpose(1, 2, 3, 0).copy(), op.weight_scale, axis=3)
            options = tfl.DepthwiseConv2DOptionsT(depthMultiplier=len(v) // op.groups, **step)
            return self.op("DEPTHWISE_CONV_2D", [x, weight, bias], out, options)
        weight = self.constant(v.transpose(0, 2, 3, 1).copy(), op.weight_scale)
        return self.op("CONV_2D", [x, weight, bias], out, tfl.Conv2DOptionsT(**step))

    def _logits(self, op: Conv, v: NDArray[np.int64], x: int, f: Format, bias: int) -> int:
        """Fully connected, to 8 bits over what random inputs give, then to floats.

        Inputs drawn evenly from their codes have the mean ``middle`` and the variance
        (hi - lo)^2 / 12, so that a logit, a sum of independent terms, has the mean ``centre`` and
        the standard deviation ``spread``. The format covers ``SPREADS`` of these on both sides.
        """
        if op.groups != 1 or self.shapes[op.inputs[0]][1:] != (1, 1):
            raise Unsupported(
                f"{op.name}: LiteRT gives float logits only of a fully connected layer"
            )
        flat, scale = v.reshape(len(v), -1), op.weight_scale.astype(np.float64) * f.scale
        middle = (f.lo + f.hi) / 2 - f.zero
        centre = (flat.sum(1) * middle + op.bias) * scale
        spread = np.sqrt((flat * flat).sum(1)) * (f.hi - f.lo) / np.sqrt(12) * scale
        low = min(float((centre - SPREADS * spread).min()), 0.0)
        high = max(float((centre + SPREADS * spread).max()), 0.0)
        y = Format((high - low) / 255, int(np.rint(-low / (high - low) * 255)))
        shape = (self.batch, len(v))
        vector = self.reshape(x, self.tensor((self.batch, flat.shape[1]), f))
        weight = self.constant(flat.astype(np.int8), op.weight_scale)
        options = tfl.FullyConnectedOptionsT()
        codes = self.op("FULLY_CONNECTED", [vector, weight, bias], self.tensor(shape, y), options)
        return self.op("DEQUANTIZE", [codes], self.tensor(shape, None))

    def _add(self, inputs: list[int], name: str, y: Format, lo: Any, hi: Any) -> int:
        options = tfl.AddOptionsT(potScaleInt16=False)
        out = self.op("ADD", inputs, self.image(self.shapes[name], y), options)
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
        out = self.image(self.shapes[name], y)
        codes = self.op("QUANTIZE", [self.made[name]], out, tfl.QuantizeOptionsT())
        return self.bounded(codes, name, y)


# LRN, Lut and Island have no form in int8
TRANSLATE: dict[type[Op], Callable[[Exporter, Any, int, Format], int]] = {
    Conv: Exporter.conv,
    Add: Exporter.add,
    Concat: Exporter.concat,
    MaxPool: Exporter.max_pool,
    AvgPool: Exporter.avg_pool,
    Pad: Exporter.pad,
    Select: Exporter.select,
    Resize: Exporter.resize,
    Flatten: Exporter.flatten,
    Dequantize: Exporter.dequantize,
}
