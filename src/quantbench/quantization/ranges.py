"""Range estimators: which part of the real line a grid covers."""

from __future__ import annotations

import torch
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.quantization.grids import QParams, qparams
from quantbench.quantization.scheme import Grid

CHUNK = 2**16  # values searched at a time where rows are independent: they stay in the cache

# clipping ratios 1.00, 0.99, ..., 0.21: the search grid of BRECQ's and AdaRound's public code
SHRINK_STEPS = 80


def estimate(x: Tensor, grid: Grid, *, gram: Tensor | None = None) -> QParams:
    """Scale and zero point of ``grid`` for a tensor.

    Args:
        x: weights (out, ...) or any activation sample; channels are the first dimension.
        grid: its ``range`` names the estimator.
        gram: E[x x^T] of the layer's input columns, (groups, k, k), for ``output_mse`` only.

    Returns:
        Parameters that broadcast over ``x``: shape (out, 1, ...) per channel, else a scalar.

    Raises:
        BadInput: values are not finite, there are none, or ``output_mse`` lacks its input
            statistics.

    """
    if x.numel() == 0:
        raise BadInput("cannot find the range of an empty tensor")
    if not torch.isfinite(x).all():
        raise BadInput(
            f"{int((~torch.isfinite(x)).sum())} of {x.numel()} values are NaN or infinite"
        )
    rows = x.detach().flatten(1) if grid.per_channel else x.detach().reshape(1, -1)
    signed = bool((x < 0).any())
    low, high = _extremes(rows, grid.range)
    if grid.range.startswith("percentile") or grid.range == "minmax":
        best = qparams(grid, low, high, signed=signed)
    else:
        each = rows.shape[0] if gram is not None else max(1, CHUNK // rows.shape[1])
        parts = (torch.split(t, each) for t in (rows, low, high))
        found = [
            _search(r, grid, lo, hi, signed=signed, gram=gram)
            for r, lo, hi in zip(*parts, strict=True)
        ]
        scale, zero = (torch.cat(t) for t in zip(*((f.scale, f.zero) for f in found), strict=True))
        best = QParams(scale, zero, found[0].levels)
    shape = (-1,) + (1,) * (x.dim() - 1) if grid.per_channel else ()
    return QParams(best.scale.reshape(shape), best.zero.reshape(shape), best.levels)


def _extremes(rows: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """(rows, 1) lowest and highest value, or two-sided percentiles."""
    if not name.startswith("percentile"):
        return rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    keep = float(name.removeprefix("percentile")) / 100
    n = rows.shape[1]
    high = rows.kthvalue(max(1, round(keep * n)), dim=1, keepdim=True).values
    low = rows.kthvalue(min(n, n - round(keep * n) + 1), dim=1, keepdim=True).values
    return low, high


def _search(
    rows: Tensor, grid: Grid, low: Tensor, high: Tensor, *, signed: bool, gram: Tensor | None
) -> QParams:
    """Shrink the full range step by step; keep, row by row, the clipping of smallest error."""
    best = qparams(grid, low, high, signed=signed)
    best_error = torch.full_like(low, torch.inf)
    for i in range(SHRINK_STEPS):
        ratio = 1 - 0.01 * i
        candidate = qparams(grid, low * ratio, high * ratio, signed=signed)
        error = _error(rows, candidate.dequantize(candidate.quantize(rows)), grid, gram)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        scale = torch.where(better, candidate.scale, best.scale)
        best = QParams(scale, torch.where(better, candidate.zero, best.zero), best.levels)
    return best


def _error(rows: Tensor, fake: Tensor, grid: Grid, gram: Tensor | None) -> Tensor:
    """(rows, 1) error of a candidate: mean |x - x^|^p, or ||Wx - W^x||^2 by the Gram matrix."""
    if grid.range.startswith("lp"):
        return (rows - fake).abs().pow(float(grid.range[2:])).mean(1, keepdim=True)
    if grid.range == "mse":
        return (rows - fake).square().mean(1, keepdim=True)
    if gram is None:
        raise BadInput(
            "range output_mse needs the layer's input statistics: it fits weights, not activations"
        )
    delta = (rows - fake).reshape(gram.shape[0], -1, gram.shape[-1])  # (groups, out/groups, k)
    per_row = torch.einsum("gok,gkl,gol->go", delta, gram, delta).reshape(-1, 1)
    return per_row if grid.per_channel else per_row.sum(0, keepdim=True)
