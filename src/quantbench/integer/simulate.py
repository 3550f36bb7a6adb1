"""Exact simulation in torch: the oracle's codes at the speed of float convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.dispatch import entry
from quantbench.integer.exact import EXACT, ExactConv, over, quantize, scaled
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
    Mul,
    Op,
    Pad,
    Program,
    Rearrange,
    Resize,
    Select,
)
from quantbench.integer.scales import known, product_ratio, ratio, taps
from quantbench.integer.validate import validate, validate_images


class Layer(Protocol):
    """A convolution that is ready to run."""

    def run(self, inputs: list[Tensor]) -> Tensor:
        """Codes, or float32 logits, (N, O, H, W)."""


class Simulation:
    """A program compiled for torch.

    Args:
        program: validated on the way in.
        device: where to run; the result is the same everywhere.
        layer: makes a convolution from the operator, the formats of its inputs and the device.

    """

    def __init__(
        self,
        program: Program,
        device: torch.device | str = "cpu",
        layer: Callable[[Conv, list[Format | None], torch.device], Layer] = ExactConv.of,
    ) -> None:
        validate(program)
        for op in program.ops:
            entry(APPLY, op, "the simulation")
        self.program, self.device = program, torch.device(device)
        formats = program.formats
        self._convs = {
            op.output: layer(op, [formats[i] for i in op.inputs], self.device)
            for op in program.ops
            if isinstance(op, Conv)
        }

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, outputs) of float32 images or uint8 codes (N, C, H, W)."""
        return self._run(images, keep=False)[self.program.output].flatten(1)

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        """Every tensor by name, (N, C, H, W): uint8 codes, or float32 where there is no format."""
        return self._run(images, keep=True)

    @torch.no_grad()
    def _run(self, images: Tensor, *, keep: bool) -> dict[str, Tensor]:
        program, formats = self.program, self.program.formats
        validate_images(images.detach().cpu().numpy(), program)
        images = images.to(self.device)
        if images.dtype != torch.uint8:
            images = quantize(over(images, program.input.scale), program.input)
        tensors = {"input": images.contiguous(memory_format=torch.channels_last)}
        last_use = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
        for i, op in enumerate(program.ops):
            inputs = [tensors[name] for name in op.inputs]
            if isinstance(op, Conv):
                tensors[op.output] = self._convs[op.output].run(inputs)
            else:
                tensors[op.output] = apply(op, inputs, [known(formats[name]) for name in op.inputs])
            if not keep:
                for name in op.inputs:
                    if last_use[name] == i:
                        tensors.pop(name, None)
        return tensors


def apply(op: Op, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    """Output (N, C, H, W) of one operator, on the device of its inputs.

    Raises:
        Unsupported: an operator that torch has no exact form of here.

    """
    return entry(APPLY, op, "the simulation")(op, inputs, formats)


def _conv(op: Conv, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    """One call alone; ``Simulation`` prepares its convolutions once."""
    return ExactConv.of(op, list(formats), inputs[0].device).run(inputs)


def _add(op: Add, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    y = known(op.out)
    a, b = (scaled(x, f, y) for x, f in zip(inputs, formats, strict=True))
    return quantize(a + b, y, op.lo, op.hi)


def _mul(op: Mul, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    """Products of two codes are whole numbers below 2^24, which float32 holds."""
    y = known(op.out)
    a, b = (x.float() - f.zero for x, f in zip(inputs, formats, strict=True))
    return quantize(a * b * float(product_ratio(formats[0].scale, formats[1].scale, y.scale)), y)


def _concat(op: Concat, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    y = known(op.out)
    pairs = zip(inputs, formats, strict=True)
    return torch.cat([x if f == y else quantize(scaled(x, f, y), y) for x, f in pairs], 1)


def _max_pool(op: MaxPool, inputs: list[Tensor], _: list[Format]) -> Tensor:
    top, left, bottom, right = op.pads
    padded = F.pad(inputs[0].float(), (left, right, top, bottom))  # no code is below 0
    return F.max_pool2d(padded, op.kernel, op.stride).to(torch.uint8)


def _avg_pool(op: AvgPool, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    x, f, y = inputs[0], formats[0], known(op.out)
    top, left, bottom, right = op.pads
    pads = (left, right, top, bottom)
    area = op.kernel[0] * op.kernel[1]
    dtype = torch.float32 if area * 255 < EXACT else torch.float64
    padded = F.pad(x.to(dtype) - f.zero, pads)
    total = F.avg_pool2d(padded, op.kernel, op.stride, divisor_override=1)
    inside = F.pad(torch.ones(1, 1, *x.shape[2:]), pads, value=float(op.count_padding))
    counts = F.avg_pool2d(inside, op.kernel, op.stride, divisor_override=1).long()
    m = [float(ratio(f.scale, y.scale, count)) for count in counts.flatten().tolist()]
    return quantize(total.float() * torch.tensor(m).reshape(counts.shape).to(x.device), y)


def _lrn(op: LRN, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    """As the oracle derives it; squares are whole numbers, so that the order of adding is free."""
    x, f, y = inputs[0], formats[0], known(op.out)
    d = x.double() - f.zero
    padded = F.pad(d * d, (0, 0, 0, 0, op.size // 2, (op.size - 1) // 2))
    near = [padded[:, i : i + x.shape[1]] for i in range(op.size)]
    u = op.k + (op.alpha / op.size * (f.scale * f.scale)) * sum(near[1:], near[0])
    return quantize(d * (f.scale / y.scale) / (u.sqrt() * u.sqrt().sqrt()), y)


def _lut(op: Lut, inputs: list[Tensor], _: list[Format]) -> Tensor:
    return torch.from_numpy(op.table).to(inputs[0].device)[inputs[0].long()]


def _pad(op: Pad, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    front, back, top, left, bottom, right = op.pads
    kept = inputs[0][:, :, :: op.stride[0], :: op.stride[1]]
    return F.pad(kept, (left, right, top, bottom, front, back), value=formats[0].zero)


def _select(op: Select, inputs: list[Tensor], _: list[Format]) -> Tensor:
    return inputs[0][:, list(op.channels)]


def _rearrange(op: Rearrange, inputs: list[Tensor], _: list[Format]) -> Tensor:
    split = inputs[0].reshape(-1, *op.split)
    return split.permute(0, *(a + 1 for a in op.axes)).reshape(-1, *op.into)


def _resize(op: Resize, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    f, acc, parts = formats[0], inputs[0].int() - formats[0].zero, 1
    for axis, m in zip((2, 3), op.size, strict=True):
        t = taps(acc.shape[axis], m, align_corners=op.align_corners)
        lower, upper, w = (torch.from_numpy(a).to(acc.device) for a in (t.lower, t.upper, t.weight))
        w = w.int().reshape(-1, *(1,) * (3 - axis))
        acc = acc.index_select(axis, lower) * (t.whole - w) + acc.index_select(axis, upper) * w
        parts *= t.whole
    s_y = 1.0 if op.out is None else op.out.scale
    scaled = acc.float() * float(ratio(f.scale, s_y, parts))
    return scaled if op.out is None else quantize(scaled, op.out)


def _flatten(_: Flatten, inputs: list[Tensor], __: list[Format]) -> Tensor:
    return inputs[0].contiguous().flatten(1)[:, :, None, None]


def _dequantize(_: Dequantize, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    return _real(inputs[0], formats[0])


def _island(op: Island, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    # through the processor whatever device the tensors are on: there are the function's parameters
    floats = op.function(*(_real(x, f).cpu() for x, f in zip(inputs, formats, strict=True)))
    t: Tensor = floats.to(inputs[0].device)
    return t if op.out is None else quantize(over(t, op.out.scale), op.out)


def _real(x: Tensor, f: Format) -> Tensor:
    return (x.float() - f.zero) * f.scale


APPLY: dict[type[Op], Callable[[Any, list[Tensor], list[Format]], Tensor]] = {
    Conv: _conv,
    Add: _add,
    Mul: _mul,
    Concat: _concat,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    LRN: _lrn,
    Lut: _lut,
    Pad: _pad,
    Select: _select,
    Rearrange: _rearrange,
    Resize: _resize,
    Flatten: _flatten,
    Dequantize: _dequantize,
    Island: _island,
}
