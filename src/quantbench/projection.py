"""The projection onto levels: one look into a table for every value, however many levels there are."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

LARGEST_TABLE = 2**16  # entries; powers of two at 5 unsigned bits would need 2^32, and are searched for instead


def nearest_levels(x: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The level nearest to every value, the lower of two equally near ones; NaN stays NaN.

    Levels are whole numbers, so their midpoints are halves, and which of the intervals ((k-1)/2, k/2] a value is in
    says what is nearest. Memory is that of a few tensors like ``x``.

    Args:
        x: any shape; its memory layout is kept.
        levels: ascending.

    """
    x = x.detach()
    low, high = 2 * levels[0], 2 * levels[-1]
    if high - low > LARGEST_TABLE:
        ends = torch.tensor(levels, dtype=x.dtype, device=x.device)
        return ends[torch.bucketize(x.contiguous(), (ends[1:] + ends[:-1]) / 2)].where(~x.isnan(), x)
    exact = x if x.dtype == torch.float64 else x.float()  # in bfloat16 not every k is a number
    k = (2 * exact).ceil_().clamp_(low, high).sub_(low).nan_to_num_(nan=high - low + 1)
    index = k.to(torch.int32).as_strided((k.numel(),), (1,))  # in the order of memory: k has no gaps, being new
    found = _table(levels, x.dtype, x.device).index_select(0, index)
    return found.as_strided(k.shape, k.stride())


@lru_cache(maxsize=64)
def _table(levels: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Nearest level of k/2 for every k between twice the lowest and twice the highest level, and NaN at the end."""
    with torch.inference_mode(mode=False):  # what is made in that mode could not be used outside of it
        ends = torch.tensor(levels, dtype=torch.float64)
        halves = torch.arange(2 * levels[0], 2 * levels[-1] + 1, dtype=torch.float64) / 2
        nearest = ends[torch.bucketize(halves, (ends[1:] + ends[:-1]) / 2)]
        return torch.cat([nearest, torch.full((1,), torch.nan)]).to(device, dtype)
