"""Intervals for statistics that are no mean over examples, such as the rank correlations of text tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantbench.errors import BadInput
from quantbench.stats import LEVEL, Interval


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two score lists, shape (n,), ties averaged, in points as text papers print it."""
    from scipy.stats import rankdata

    return 100 * float(np.corrcoef(rankdata(np.asarray(a)), rankdata(np.asarray(b)))[0, 1])


def bootstrap(
    statistic: Callable[..., float],
    *scores: ArrayLike,
    rng: np.random.Generator,
    level: float = LEVEL,
    draws: int = 2000,
) -> Interval:
    """Percentile interval of a statistic that is no mean, such as a difference of two Spearman correlations.

    Args:
        statistic: takes as many arrays as there are scores and returns points.
        scores: each of shape (n,); the same examples are drawn from all of them, so the comparison stays paired.
        rng: explicit generator; the same state gives the same interval.
        level: confidence.
        draws: resamples; 2,000 leave about 5 % of the half-width as noise in the ends.

    Raises:
        BadInput: no examples, or different numbers of them.

    """
    arrays: list[NDArray[Any]] = [np.asarray(s) for s in scores]
    n = arrays[0].size
    if n == 0 or any(a.shape != (n,) for a in arrays):
        raise BadInput(f"bootstrap of arrays shaped {[a.shape for a in arrays]}: all must be (n,) with the same n > 0")
    drawn = np.array([statistic(*(a[i] for a in arrays)) for i in rng.integers(0, n, (draws, n))])
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(statistic(*arrays)), float(low), float(high), float(drawn.std(ddof=1)), n)
