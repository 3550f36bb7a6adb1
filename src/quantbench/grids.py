"""Quantization grids: which codes exist, and how values map to codes and back.

Every grid of this library, uniform or not, is a set of whole-number *codes* with one step:
value = scale * (code - zero).
Powers-of-two and additive powers-of-two levels are whole multiples of their smallest step, so they are code sets too
(Li et al. 2020, arXiv 1909.13144, eq. 3 and 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.fake import fake
from quantbench.projection import nearest_levels
from quantbench.scheme import Grid, Kind

# Exponents of each term set of APoT (0 itself is in every set): level = gamma * sum of one element of each set.
_APOT_TERMS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0,),),
    2: ((1, 2, 3),),
    3: ((1, 2, 4), (3,)),
    4: ((1, 3, 5), (2, 4, 6)),
    5: ((1, 3, 6), (2, 4, 7), (5,)),
    6: ((1, 4, 7), (2, 5, 8), (3, 6, 9)),
}


@cache
def unsigned_levels(kind: Kind, bits: int) -> tuple[Fraction, ...]:
    """Levels in [0, 1] of an unsigned grid with ``2**bits`` of them, ascending, as exact rationals.

    Raises:
        BadInput: additive powers of two are defined for 1 to 6 unsigned bits.

    """
    if kind == "uniform":
        return tuple(Fraction(i, 2**bits - 1) for i in range(2**bits))
    if kind == "pot":
        return (Fraction(0), *(Fraction(1, 2**e) for e in range(2**bits - 2, -1, -1)))
    sets = [(Fraction(0), *(Fraction(1, 2**e) for e in exponents)) for exponents in apot_terms(bits)]
    sums = sorted({sum(terms, Fraction(0)) for terms in product(*sets)})
    return tuple(s / sums[-1] for s in sums)


def apot_terms(bits: int) -> tuple[tuple[int, ...], ...]:
    """Exponents e of each term set {0, 2^-e, ...} of the unsigned APoT levels.

    Raises:
        BadInput: additive powers of two are defined for 1 to 6 unsigned bits.

    """
    if bits not in _APOT_TERMS:
        raise BadInput(f"APoT levels are defined for 1 to 6 bits beside the sign, not {bits}")
    return _APOT_TERMS[bits]


@cache
def code_levels(kind: Kind, bits: int, *, signed: bool, symmetric: bool = True) -> tuple[int, ...]:
    """All codes of a grid, ascending: whole multiples of the smallest step.

    Uniform signed grids are two's complement (-2^(b-1) .. 2^(b-1)-1), unsigned ones 0 .. 2^b-1. Other kinds keep one
    bit for the sign; at 2 bits that leaves {-1, 0, 1} (APoT, section 3.3).
    """
    if kind == "uniform":
        return tuple(range(-(2 ** (bits - 1)), 2 ** (bits - 1))) if signed and symmetric else tuple(range(2**bits))
    fractions = unsigned_levels(kind, bits - 1 if signed else bits)
    step = math.lcm(*(f.denominator for f in fractions))
    positive = [int(f * step) for f in fractions]
    common = math.gcd(*positive)
    positive = [p // common for p in positive]
    return tuple(sorted({-p for p in positive} | set(positive))) if signed else tuple(positive)


class _Round(torch.autograd.Function):
    """Rounding with a straight-through gradient; exact, unlike x + (round(x) - x).detach()."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return grad[0]


class _Replace(torch.autograd.Function):
    """The second argument's value with the first one's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return value

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - autograd's signature
        return grad[0], None


def ste_round(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes straight through (Bengio et al. 2013)."""
    rounded: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return rounded


@dataclass(frozen=True, eq=False)
class QParams:
    """A grid with its range: value = scale * (code - zero), code in ``levels``.

    Attributes:
        scale: step, positive; broadcasts over the tensor it quantizes (a scalar, or (out, 1, 1, 1) per channel).
        zero: zero point, a whole number in float32, same shape as ``scale``.
        levels: all codes, ascending; consecutive for uniform grids.

    """

    scale: Tensor
    zero: Tensor
    levels: tuple[int, ...]

    @property
    def uniform(self) -> bool:
        """Whether the codes are consecutive whole numbers."""
        return len(self.levels) == self.levels[-1] - self.levels[0] + 1

    def quantize(self, x: Tensor) -> Tensor:
        """Codes of the nearest levels, as whole numbers in ``x``'s dtype; ties go to the even code on uniform grids."""
        scaled = x / self.scale
        if self.uniform:
            return (scaled.round() + self.zero).clamp(self.levels[0], self.levels[-1])
        return nearest_levels(scaled + self.zero, self.levels)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Values of codes."""
        return (codes - self.zero) * self.scale

    def fake(self, x: Tensor) -> Tensor:
        """Nearest representable value; straight-through gradient inside the range, none outside, LSQ's for the scale.

        The gradient of ``scale`` is that of Esser et al. 2020 (eq. 3) before its gradient scaling.
        """
        if self.uniform:
            return fake(x, self.scale, self.zero, self.levels[0], self.levels[-1])
        low, high = self.levels[0] - self.zero, self.levels[-1] - self.zero
        clipped = torch.clamp(x / self.scale, low, high)
        nearest: Tensor = _Replace.apply(clipped, self.quantize(x.detach()) - self.zero)  # type: ignore[no-untyped-call]
        return nearest * self.scale

    def bracket(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The neighbouring codes below and above ``x``, equal to each other outside the range.

        On a uniform grid this is clip(floor(x/s), n, p) and clip(floor(x/s) + 1, n, p) of AdaRound's eq. 22.
        """
        scaled = x / self.scale + self.zero
        if self.uniform:
            low = scaled.floor()
            return low.clamp(self.levels[0], self.levels[-1]), (low + 1).clamp(self.levels[0], self.levels[-1])
        levels = torch.tensor(self.levels, dtype=x.dtype, device=x.device)
        above = torch.bucketize(scaled.contiguous(), levels, right=True)
        last = len(self.levels) - 1
        return levels[(above - 1).clamp(0, last)], levels[above.clamp(0, last)]


def qparams(grid: Grid, low: Tensor, high: Tensor, *, signed: bool = True) -> QParams:
    """Grid parameters that cover [low, high] (same shapes; per channel or scalar).

    Symmetric grids cover [-m, m] with m = max(|low|, |high|), or [0, m] when not ``signed``; asymmetric ones always
    contain 0. Uniform symmetric signed grids put m on the largest code, 2^(b-1)-1.
    """
    if not grid.symmetric and grid.kind == "uniform":
        levels = code_levels(grid.kind, grid.bits, signed=False)
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = ((high - low) / levels[-1]).clamp(min=torch.finfo(low.dtype).tiny * 1e8)
        return QParams(scale, (-low / scale).round().clamp(0, levels[-1]), levels)
    levels = code_levels(grid.kind, grid.bits, signed=signed)
    bound = torch.maximum(low.abs(), high.abs())
    scale = (bound / levels[-1]).clamp(min=torch.finfo(low.dtype).tiny * 1e8)
    return QParams(scale, torch.zeros_like(scale), levels)
