"""Tests of change, corrected for many cells: exact for correctness, of ranks for times."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p-value of McNemar's test.

    That is: the discordant images, ``b`` and ``c``, fall on either side with probability one half.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0


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


def normal(value: float, se: float) -> float:
    """Two-sided p-value of an estimate with a standard error; scores need not be correctness."""
    if se == 0:
        return 1.0 if value == 0 else 0.0
    return math.erfc(abs(value) / se / math.sqrt(2))
