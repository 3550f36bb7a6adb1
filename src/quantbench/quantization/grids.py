"""Quantization grids: which codes exist, and how values map to codes and back.

Every grid of this library, uniform or not, is a set of whole-number *codes* with one step: value =
scale * (code - zero). Powers-of-two and additive powers-of-two levels are whole multiples of their
smallest step, so they are code sets too (Li et al. 2020, arXiv 1909.13144, eq. 3 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quantbench.quantization.levels import code_levels, nearest_levels
from quantbench.quantization.scheme import Grid
from quantbench.quantization.straight_through import _Replace, fake

# Smallest step: what spans less is constant as far as a network can tell. A multiplier is a ratio
# s_x s_w / s_y: with no step below 2^-32, and none above 2^16, it stays in 2^-80..2^64 and is a
# normal number in binary32. A channel of zeros then has a scale like any other.
SMALLEST = 2.0**-32


@dataclass(frozen=True, eq=False)
class QParams:
    """A grid with its range: value = scale * (code - zero), code in ``levels``.

    Attributes:
        scale: step, positive; broadcasts over the tensor it quantizes (a scalar, or (out, 1, 1, 1)
            per channel).
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
        """Codes of the nearest levels, as whole numbers in ``x``'s dtype.

        Ties go to the even code on uniform grids.
        """
        scaled = x / self.scale
        if self.uniform:
            return (scaled.round() + self.zero).clamp(self.levels[0], self.levels[-1])
        return nearest_levels(scaled + self.zero, self.levels)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Values of codes."""
        return (codes - self.zero) * self.scale

    def fake(self, x: Tensor) -> Tensor:
        """Nearest representable value.

        Straight-through gradient inside the range, none outside, LSQ's for the scale.

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

        On a uniform grid this is clip(floor(x/s), n, p) and clip(floor(x/s) + 1, n, p) of
        AdaRound's eq. 22.
        """
        scaled = x / self.scale + self.zero
        if self.uniform:
            low = scaled.floor()
            first, last = self.levels[0], self.levels[-1]
            return low.clamp(first, last), (low + 1).clamp(first, last)
        levels = torch.tensor(self.levels, dtype=x.dtype, device=x.device)
        above = torch.bucketize(scaled.contiguous(), levels, right=True)
        last = len(self.levels) - 1
        return levels[(above - 1).clamp(0, last)], levels[above.clamp(0, last)]


def qparams(grid: Grid, low: Tensor, high: Tensor, *, signed: bool = True) -> QParams:
    """Grid parameters that cover [low, high] (same shapes; per channel or scalar).

    Symmetric grids cover [-m, m] with m = max(|low|, |high|), or [0, m] when not ``signed``;
    asymmetric ones always contain 0. Uniform symmetric signed grids put m on the largest code,
    2^(b-1)-1.
    """
    if not grid.symmetric and grid.kind == "uniform":
        levels = code_levels(grid.kind, grid.bits, signed=False)
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = ((high - low) / levels[-1]).clamp(min=SMALLEST)
        return QParams(scale, (-low / scale).round().clamp(0, levels[-1]), levels)
    levels = code_levels(grid.kind, grid.bits, signed=signed)
    bound = torch.maximum(low.abs(), high.abs())
    scale = (bound / levels[-1]).clamp(min=SMALLEST)
    return QParams(scale, torch.zeros_like(scale), levels)


def share_up(w: Tensor, qp: QParams) -> Tensor:
    """Where a weight lies between the codes below (0) and above (1); 0 outside the grid."""
    low, high = qp.bracket(w)
    share = (w / qp.scale + qp.zero - low) / (high - low).clamp(min=1)
    return torch.where(high > low, share.clamp(0, 1), 0)
