"""Intervals for statistics that are no mean over examples, such as rank correlations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantbench.errors import BadInput
from quantbench.evidence.intervals import LEVEL, Interval


def spearman(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rank correlation over the last axis, in points as text papers print it.

    Ties are averaged. Scores that are all equal predict nothing: 0, where the formula would divide
    zero by zero.
    """
    from scipy.stats import rankdata

    x, y = (rankdata(np.asarray(s), axis=-1) for s in (a, b))
    x, y = (r - r.mean(axis=-1, keepdims=True) for r in (x, y))
    spread = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.asarray(100 * (x * y).sum(axis=-1) / np.where(spread > 0, spread, 1.0))


def mean_iou(counts: ArrayLike) -> NDArray[np.float64]:
    """Mean over classes of intersection over union, in points.

    The counts of all examples are added first. Classes that are true nowhere do not count, as where
    a draw of examples has none of them.

    Args:
        counts: (..., examples, 3 C): of each class the pixels that are found right, those that are
            found or true, and those that are true.

    Returns:
        (...,); 0 where no class is true anywhere.

    """
    total = np.asarray(counts).sum(-2, dtype=np.float64)
    right, either, true = np.split(total, 3, axis=-1)
    there = true > 0
    each = np.where(there, right / np.where(either > 0, either, 1.0), 0.0)
    return np.asarray(100 * each.sum(-1) / np.maximum(there.sum(-1), 1))


def bootstrap(
    statistic: Callable[..., NDArray[np.float64]],
    *scores: ArrayLike,
    rng: np.random.Generator,
    level: float = LEVEL,
    draws: int = 2000,
) -> Interval:
    """Percentile interval of what is no mean, such as a difference of Spearman correlations.

    Args:
        statistic: takes as many arrays as there are scores, works over their axis of examples, and
            returns points.
        scores: each of shape (n,), or (n, k) for k numbers an example; the same examples are drawn
            from all of them, so the comparison stays paired.
        rng: explicit generator; the same state gives the same interval.
        level: confidence.
        draws: resamples; 2,000 leave about 5 % of the half-width as noise in the ends.

    Raises:
        BadInput: no examples, or different numbers of them.

    """
    arrays: list[NDArray[Any]] = [np.asarray(s) for s in scores]
    n = len(arrays[0]) if arrays[0].ndim in (1, 2) else 0
    if n == 0 or any(a.shape != arrays[0].shape for a in arrays):
        raise BadInput(
            f"bootstrap of arrays shaped {[a.shape for a in arrays]}: "
            "all must be (n,), or (n, k), with the same n > 0"
        )
    # a few megabytes at a time
    rows = max(1, min(draws, 200_000 // max(n, *(a.size // 8 for a in arrays))))
    chunks = (rng.integers(0, n, (min(rows, draws - i), n)) for i in range(0, draws, rows))
    drawn = np.concatenate([statistic(*(a[chunk] for a in arrays)) for chunk in chunks])
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(statistic(*arrays)), float(low), float(high), float(drawn.std(ddof=1)), n)
