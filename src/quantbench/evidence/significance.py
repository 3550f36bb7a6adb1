"""Tests of loss, corrected for many cells: exact for correctness, of ranks for times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

POWER = 0.9  # share of cases in which a smallest loss is found


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm's step-down procedure.

    The chance of any false alarm among all cells stays below p.
    """
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value that neither of two sets of latencies tends to be larger.

    It does not mind outliers.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(a, b, alternative="two-sided").pvalue)


def sign(b: int, c: int, n: int, margin: float = 0.0) -> float:
    """One-sided p-value that ``b`` images lost and ``c`` won of ``n`` are more than chance.

    The exact sign test: each of the ``b + c`` discordant images was lost with probability one half,
    or with the one that makes the loss ``margin``.

    Args:
        b: images that were right and are wrong now.
        c: the reverse.
        n: all images.
        margin: loss, in points, that the null hypothesis allows.

    """
    from scipy.special import bdtr

    if not b:
        return 1.0
    share = min(1.0, 0.5 + margin / 100 * n / (2 * (b + c)))
    # P(at least b lost) = P(at most c won)
    return float(bdtr(c, b + c, 1 - share))


def normal_loss(value: float, se: float, margin: float = 0.0) -> float:
    """One-sided p-value that a loss, in points with its standard error, is above ``margin``."""
    if se == 0:
        return 0.0 if value > margin else 1.0
    return math.erfc((value - margin) / se / math.sqrt(2)) / 2


def smallest_loss(n: int, discordant: float, p: float, margin: float = 0.0) -> float:
    """The smallest loss, in points, that :func:`sign` finds in 90 % of cases.

    Without a loss, a share ``discordant`` of the images differs, half of it either way; a loss of L
    points adds L % of lost images. Normal approximation on both sides, found by halving.

    Args:
        n: images.
        discordant: share of them that differs without a loss.
        p: level of the test.
        margin: as in :func:`sign`.

    """
    reject, find = NormalDist().inv_cdf(1 - p), NormalDist().inv_cdf(POWER)

    def found(loss: float) -> bool:
        images, allowed = n * (discordant + loss), n * margin / 100
        null = math.sqrt(max(images - allowed**2 / images, 0.0))
        spread = math.sqrt(max(images - n * loss**2, 0.0))
        return n * loss - allowed >= reject * null + find * spread

    low, high = margin / 100, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return 100 * high


def smallest_normal_loss(se: float, p: float, margin: float = 0.0) -> float:
    """The same of :func:`normal_loss`, for an estimate with this standard error, in points."""
    return margin + se * (NormalDist().inv_cdf(1 - p) + NormalDist().inv_cdf(POWER))
