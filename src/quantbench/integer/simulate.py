"""Exact simulation in torch: every code equals the reference executor's, at the speed of float convolutions.

Whole numbers below 2^24 are exact in float32, in whatever order they are summed. A convolution whose accumulators stay
below that runs as one float32 convolution; otherwise its weights are split into two parts of 4 bits, v = 16 h + l, whose
accumulators do; and if even those do not, it runs in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.check import accumulator_bound, check, check_images
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
    conv_multiplier,
    ratio,
)

EXACT = 1 << 24  # whole numbers up to here are float32 values


class Simulation:
    """A program compiled for torch.

    Args:
        program: checked on the way in.
        device: where to run; the result is the same everywhere.

    """

    def __init__(self, program: Program, device: torch.device | str = "cpu") -> None:
        check(program)
        self.program, self.device = program, torch.device(device)
        formats = program.formats
        self._convs = {
            op.output: ExactConv.of(op, [formats[i] for i in op.inputs], self.device)
            for op in program.ops
            if isinstance(op, Conv)
        }

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, outputs) of float32 images or uint8 codes (N, C, H, W)."""
        return self._run(images, keep=False)[self.program.output].flatten(1)

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        """Every tensor by name: uint8 codes, or float32 where there is no format, each (N, C, H, W)."""
        return self._run(images, keep=True)

    @torch.no_grad()
    def _run(self, images: Tensor, *, keep: bool) -> dict[str, Tensor]:
        program, formats = self.program, self.program.formats
        check_images(images.detach().cpu().numpy(), program)
        images = images.to(self.device)
        if images.dtype != torch.uint8:
            images = quantize(images.float() / program.input.scale, program.input)
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


@dataclass(frozen=True, eq=False)
class ExactConv:
    """One convolution, its weights as parts (factor, float weight) whose accumulators are exact."""

    op: Conv
    formats: list[Format]
    parts: tuple[tuple[int, Tensor], ...]
    bias: Tensor
    multiplier: Tensor
    lo: Tensor
    hi: Tensor

    @classmethod
    def of(cls, op: Conv, formats: list[Format | None], device: torch.device) -> ExactConv:
        """Choose the parts."""
        inputs = [known(f) for f in formats]
        x = inputs[0]
        largest = max(x.zero - x.lo, x.hi - x.zero)
        v = op.weight.astype(np.int64) - op.weight_zero.astype(np.int64)[:, None, None, None]
        low = (v + 8) % 16 - 8
        parts: tuple[tuple[int, Tensor], ...] = ((1, torch.from_numpy(v).double()),)
        for candidate in (((1, v),), ((16, (v - low) // 16), (1, low))):
            if all(np.abs(part).sum((1, 2, 3)).max() * largest < EXACT for _, part in candidate):
                parts = tuple((factor, torch.from_numpy(part).float()) for factor, part in candidate)
                break
        parts = tuple((f, w.to(device).contiguous(memory_format=torch.channels_last)) for f, w in parts)
        bias = torch.from_numpy(op.bias).double()
        if len(parts) == 1 and int(accumulator_bound(op, largest).max()) < EXACT:
            bias = bias.float()
        m = conv_multiplier(x.scale, op.weight_scale, None if op.out is None else op.out.scale)
        per_channel = [torch.from_numpy(a) for a in (m, op.lo.astype(np.float32), op.hi.astype(np.float32))]
        m_, lo, hi = (a.to(device)[:, None, None] for a in per_channel)
        return cls(op, inputs, parts, bias.to(device)[:, None, None], m_, lo, hi)

    def run(self, inputs: list[Tensor]) -> Tensor:
        """Codes, or float32 logits."""
        op, dtype = self.op, self.parts[0][1].dtype
        top, left, bottom, right = op.pads
        x = inputs[0].to(dtype) - self.formats[0].zero
        padding = (top, left)
        if op.pads[:2] != op.pads[2:]:
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        sums = [factor * F.conv2d(x, w, None, op.stride, padding, op.dilation, op.groups).to(self.bias.dtype)
                for factor, w in self.parts]  # fmt: skip
        t = (sum(sums[1:], sums[0]) + self.bias).float() * self.multiplier
        if op.out is None:
            return t
        if len(inputs) > 1:
            t = t + _scaled(inputs[1], self.formats[1], op.out)
        z = op.out.zero
        return (t.round_().clamp_(self.lo - z, self.hi - z) + z).to(torch.uint8)


def quantize(t: Tensor, y: Format, lo: int | None = None, hi: int | None = None) -> Tensor:
    """The definition's ``quantize``, with a narrower clamp if given."""
    low, high = y.lo if lo is None else lo, y.hi if hi is None else hi
    return (t.round().clamp(low - y.zero, high - y.zero) + y.zero).to(torch.uint8)


def apply(op: Op, inputs: list[Tensor], formats: list[Format]) -> Tensor:  # noqa: C901, PLR0911 - a case an operator
    """Output (N, C, H, W) of any operator but Conv."""
    x, f = inputs[0], formats[0]
    match op:
        case Add():
            a, b = (_scaled(x, f, known(op.out)) for x, f in zip(inputs, formats, strict=True))
            return quantize(a + b, known(op.out), op.lo, op.hi)
        case Concat():
            y = known(op.out)
            parts = [x if f == y else quantize(_scaled(x, f, y), y) for x, f in zip(inputs, formats, strict=True)]
            return torch.cat(parts, 1)
        case AvgPool():
            return _avg_pool(op, x, f)
        case MaxPool():
            top, left, bottom, right = op.pads
            padded = F.pad(x.float(), (left, right, top, bottom))  # codes are never below the padding's 0
            return F.max_pool2d(padded, op.kernel, op.stride).to(torch.uint8)
        case LRN():
            return _lrn(op, x, f)
        case Lut():
            return torch.from_numpy(op.table).to(x.device)[x.long()]
        case Pad():
            front, back, top, left, bottom, right = op.pads
            kept = x[:, :, :: op.stride[0], :: op.stride[1]]
            return F.pad(kept, (left, right, top, bottom, front, back), value=f.zero)
        case Flatten():
            return x.contiguous().reshape(len(x), -1, 1, 1)
        case Dequantize():
            return _real(x, f)
        case Island():
            t = op.function(*(_real(x, f) for x, f in zip(inputs, formats, strict=True)))
            return t if op.out is None else quantize(t / op.out.scale, op.out)
    raise TypeError(type(op).__name__)


def _avg_pool(op: AvgPool, x: Tensor, f: Format) -> Tensor:
    top, left, bottom, right = op.pads
    area = op.kernel[0] * op.kernel[1]
    dtype = torch.float32 if area * 255 < EXACT else torch.float64
    padded = F.pad(x.to(dtype) - f.zero, (left, right, top, bottom))
    total = F.avg_pool2d(padded, op.kernel, op.stride, divisor_override=1)
    inside = F.pad(torch.ones(1, 1, *x.shape[2:]), (left, right, top, bottom), value=float(op.count_padding))
    counts = F.avg_pool2d(inside, op.kernel, op.stride, divisor_override=1).long()
    y = known(op.out)
    m = torch.tensor([float(ratio(f.scale, y.scale, c)) for c in counts.flatten().tolist()]).reshape(counts.shape)
    return quantize(total.float() * m.to(x.device), y)


def _lrn(op: LRN, x: Tensor, f: Format) -> Tensor:
    y, d = known(op.out), x.double() - f.zero
    padded = F.pad(d * d, (0, 0, 0, 0, op.size // 2, (op.size - 1) // 2))
    u = op.k + (op.alpha / op.size * (f.scale * f.scale)) * sum(
        (padded[:, i : i + x.shape[1]] for i in range(1, op.size)), padded[:, : x.shape[1]]
    )
    return quantize(d * (f.scale / y.scale) / (u.sqrt() * u.sqrt().sqrt()), y)


def _scaled(x: Tensor, f: Format, y: Format) -> Tensor:
    return (x.float() - f.zero) * float(ratio(f.scale, y.scale))


def _real(x: Tensor, f: Format) -> Tensor:
    return (x.float() - f.zero) * f.scale


def known(f: Format | None) -> Format:
    """A format that a checked program must have."""
    assert f is not None
    return f
