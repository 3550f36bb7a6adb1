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
    x, y = (ranked(np.asarray(s)) for s in (a, b))
    x, y = (r - r.mean(axis=-1, keepdims=True) for r in (x, y))
    spread = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return np.asarray(100 * (x * y).sum(axis=-1) / np.where(spread > 0, spread, 1.0))


def ranked(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks over the last axis, from 1; ties have the mean of theirs.

    As ``scipy.stats.rankdata`` has them, whose import takes longer than all else of a report.
    """
    order = scores.argsort(axis=-1, kind="stable")
    ascending = np.take_along_axis(scores, order, -1)
    place = np.broadcast_to(np.arange(scores.shape[-1]), scores.shape)
    new = np.ones(scores.shape, bool)  # where a group of equal scores begins
    new[..., 1:] = ascending[..., 1:] != ascending[..., :-1]
    end = np.roll(new, -1, axis=-1)  # and where one ends: the last one before the first begins
    first = np.maximum.accumulate(np.where(new, place, 0), axis=-1)
    last = np.where(end, place, scores.shape[-1])[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    found = np.empty(scores.shape)
    np.put_along_axis(found, order, (first + last) / 2 + 1, -1)
    return found


def times_drawn(rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """How often every example is in draws of positions, (..., n) like the draws."""
    n = rows.shape[-1]
    flat = rows.reshape(-1, n)
    apart = flat + n * np.arange(len(flat))[:, None]
    return np.bincount(apart.ravel(), minlength=flat.size).reshape(rows.shape)


def drawn_spearman(
    a: NDArray[np.float64], b: NDArray[np.float64], times: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Spearman's rank correlation in draws of the examples, to the bit as :func:`spearman` has it.

    Args:
        a: ranks in every draw, (..., n), of :func:`drawn_ranks`.
        b: those of the other scores, (..., n).
        times: how often every example is drawn, (..., n); n in all.

    Returns:
        (...,) in points.

    """
    middle = (times.shape[-1] + 1) / 2
    x, y = a - middle, b - middle
    drawn_x = times * x
    spread = np.sqrt(_dot(drawn_x, x) * _dot(times * y, y))
    return np.asarray(100 * _dot(drawn_x, y) / np.where(spread > 0, spread, 1.0))


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("...i,...i->...", a, b))


def drawn_ranks(scores: NDArray[Any], times: NDArray[np.intp]) -> NDArray[np.float64]:
    """Ranks in draws of the examples, ties averaged: (..., n); of what is not drawn, any number.

    Examples are sorted once, and not in every draw. Ranks are halves of whole numbers, so that no
    sum of their products rounds.

    Args:
        scores: of every example, (n,).
        times: how often every example is drawn, (..., n).

    """
    different, group = np.unique(scores, return_inverse=True)
    order = group.argsort(kind="stable")
    alike = times[..., order]
    if len(different) < len(scores):
        first = np.searchsorted(group[order], np.arange(len(different)))
        alike = np.add.reduceat(alike, first, axis=-1)
    return np.asarray((alike.cumsum(-1) - (alike - 1) / 2)[..., group])


def drawn_iou(counts: NDArray[Any], times: NDArray[np.intp]) -> NDArray[np.float64]:
    """:func:`mean_iou` of draws of the examples, (...,).

    Args:
        counts: of every example, (n, 3 C).
        times: how often every example is drawn, (..., n).

    """
    return mean_iou((times.astype(np.float64) @ counts.astype(np.float64))[..., None, :])


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
