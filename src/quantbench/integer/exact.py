"""Integer convolutions by float ones, exactly.

Whole numbers below 2^24 are exact in float32, in whatever order they are summed. A convolution
whose accumulators stay below that runs as one float32 convolution; otherwise its weights are split
into two parts of 4 bits, v = 16 h + l, whose accumulators do; and if even those do not, it runs in
float64. That holds for direct summation in IEEE arithmetic: cuDNN, which may choose Fourier
transforms or fewer bits, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.ir import Conv, Format
from quantbench.integer.rules import accumulator_bound
from quantbench.integer.scales import conv_multiplier, known, ratio

EXACT = 1 << 24  # whole numbers up to here are float32 values


@dataclass(frozen=True, eq=False)
class Requant:
    """From accumulators of a convolution to its codes, on one device."""

    op: Conv
    formats: list[Format]
    multiplier: Tensor
    lo: Tensor
    hi: Tensor

    @classmethod
    def of(cls, op: Conv, formats: list[Format], device: torch.device) -> Requant:
        """Constants of every output channel."""
        y = op.out
        m = conv_multiplier(formats[0].scale, op.weight_scale, None if y is None else y.scale)
        lo, hi = op.lo.astype(np.float32), op.hi.astype(np.float32)
        per_channel = (torch.from_numpy(a).to(device)[:, None, None] for a in (m, lo, hi))
        return cls(op, formats, *per_channel)

    def run(self, acc: Tensor, inputs: list[Tensor]) -> Tensor:
        """Codes, or float32 logits.

        Args:
            acc: whole sums (N, O, H, W), bias included.
            inputs: the operator's; the second one is the residual.

        """
        t, y = acc.float() * self.multiplier, self.op.out
        if y is None:
            return t
        if len(inputs) > 1:
            t = t + scaled(inputs[1], self.formats[1], y)
        return (t.round_().clamp_(self.lo - y.zero, self.hi - y.zero) + y.zero).to(torch.uint8)


@dataclass(frozen=True, eq=False)
class ExactConv:
    """One convolution, its weights as parts (factor, float weight) whose accumulators are exact."""

    op: Conv
    formats: list[Format]
    parts: tuple[tuple[int, Tensor], ...]
    bias: Tensor
    requant: Requant

    @classmethod
    def of(cls, op: Conv, formats: list[Format | None], device: torch.device) -> ExactConv:
        """Choose the parts: one, two of 4 bits, or one in float64."""
        inputs = [known(f) for f in formats]
        x = inputs[0]
        largest = max(x.zero - x.lo, x.hi - x.zero)
        v = op.weight.astype(np.int64) - op.weight_zero.astype(np.int64)[:, None, None, None]
        parts = [
            (f, w.to(device).contiguous(memory_format=torch.channels_last))
            for f, w in _parts(v, largest)
        ]
        bias = torch.from_numpy(op.bias).double()
        if len(parts) == 1 and int(accumulator_bound(op, largest).max()) < EXACT:
            bias = bias.float()
        requant = Requant.of(op, inputs, device)
        return cls(op, inputs, tuple(parts), bias.to(device)[:, None, None], requant)

    def run(self, inputs: list[Tensor]) -> Tensor:
        """Codes, or float32 logits."""
        op, dtype = self.op, self.parts[0][1].dtype
        top, left, bottom, right = op.pads
        x = inputs[0].to(dtype) - self.formats[0].zero
        padding = (top, left)
        if op.pads[:2] != op.pads[2:]:
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        # one channel that calls itself channels-last is convolved wrongly by torch 2.15, if narrow
        if x.shape[1] == 1:
            x = x.contiguous().flatten().view(x.shape)
        geometry = (op.stride, padding, op.dilation, op.groups)
        with torch.backends.cudnn.flags(enabled=False, allow_tf32=False):
            convolved = [(factor, F.conv2d(x, w, None, *geometry)) for factor, w in self.parts]
        sums = [factor * t.to(self.bias.dtype) for factor, t in convolved]
        return self.requant.run(sum(sums[1:], sums[0]) + self.bias, inputs)


def _parts(v: NDArray[np.int64], largest: int) -> list[tuple[int, Tensor]]:
    """Weights (O, C / groups, kh, kw) as factors and float weights whose sums are exact.

    A sum of terms w * d with |d| <= ``largest``, and each of its partial sums in any order, is at
    most sum |w| * ``largest``. Where that is below 2^24 float32 holds them all. The halves of
    v = 16 h + l, with l in -8..7, have sums about 16 times smaller than those of v; the factor 16
    comes after the sum, in float64.
    """
    low = (v + 8) % 16 - 8
    for candidate in (((1, v),), ((16, (v - low) // 16), (1, low))):
        if all(np.abs(part).sum((1, 2, 3)).max() * largest < EXACT for _, part in candidate):
            return [(factor, torch.from_numpy(part).float()) for factor, part in candidate]
    return [(1, torch.from_numpy(v).double())]


def quantize(t: Tensor, y: Format, lo: int | None = None, hi: int | None = None) -> Tensor:
    """The definition's ``quantize``, with a narrower clamp if given."""
    low, high = y.lo if lo is None else lo, y.hi if hi is None else hi
    return (t.round().clamp(low - y.zero, high - y.zero) + y.zero).to(torch.uint8)


def over(t: Tensor, scale: float) -> Tensor:
    """The definition's ``f32(t / scale)``."""
    # by a tensor on t's device: CUDA multiplies by the reciprocal of a plain number
    return t.float() / torch.tensor(scale, dtype=torch.float32, device=t.device)


def scaled(x: Tensor, f: Format, y: Format) -> Tensor:
    """The definition's ``f32((x - z) * f32(s_x / s_y))``."""
    return (x.float() - f.zero) * float(ratio(f.scale, y.scale))
