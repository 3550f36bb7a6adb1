"""Statistics of accuracies, and of paired comparisons on the same images.

Accuracies and their differences are in points (percent). Only numpy is imported here: importing
scipy's solvers takes longer than a whole report, so the normal quantile is the standard library's
and a root is found by halving.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantbench.errors import BadInput

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its standard error and confidence interval, all in points.

    Attributes:
        value: the estimate.
        low: lower end.
        high: upper end.
        se: standard error.
        n: number of independent units (images, sentence pairs), whatever the number of seeds.

    """

    value: float
    low: float
    high: float
    se: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        """Such as ``1.20 [0.43, 2.01]``."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def signed(self) -> str:
        """Such as ``+1.20 [+0.43, +2.01]``."""
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def exact(value: float, n: int) -> Interval:
    """What was measured on everything that it is said of: nothing to estimate."""
    return Interval(value, value, value, 0.0, n)


def joined(ours: Interval, half: float, *, rounding: float = 0.0, less: float = 0.0) -> Interval:
    """The interval of (``ours`` - a number), with more in it than the sampling of images.

    Independent sources add in squares, end by end, so that an interval that is longer on one side
    stays so (Zou and Donner, Statistics in Medicine 27, 2008). Rounding is no chance but a bound:
    the ends move out by all of it.

    Args:
        ours: the estimate with the sampling of its images.
        half: half-width of another, independent source, such as seeds.
        rounding: the most that the number may be away from what was rounded.
        less: the number itself.

    """
    value = ours.value - less
    low = value - math.hypot(ours.value - ours.low, half) - rounding
    high = value + math.hypot(ours.high - ours.value, half) + rounding
    return Interval(value, low, high, math.hypot(ours.se, half / _z(LEVEL)), ours.n)


@dataclass(frozen=True)
class Paired(Interval):
    """A paired difference; ``b`` images favour the first of the two, ``c`` the second."""

    b: int
    c: int


def paired(
    first: ArrayLike, second: ArrayLike, level: float = LEVEL, *, bounded: bool = True
) -> Paired:
    """Mean of ``first``, such as full precision, minus mean of ``second`` on the same images.

    Args:
        first: correctness (bool) or score in [0, 1] of each image, shape (n,), or (seeds, n).
        second: the same for the other network; its number of seeds may differ.
        level: confidence.
        bounded: see :func:`per_image`.

    Raises:
        BadInput: no images, different numbers of images, or a score that is not in [0, 1].

    """
    a, b = per_image(first, bounded=bounded), per_image(second, bounded=bounded)
    if a.shape != b.shape:
        raise BadInput(
            f"{a.size} images against {b.size}: "
            "a paired comparison needs the same images on both sides"
        )
    return paired_units(a - b, level)


def per_image(scores: ArrayLike, *, bounded: bool = True) -> NDArray[np.float64]:
    """Scores of shape (n,) or (seeds, n), averaged over the seeds: (n,).

    Args:
        scores: one for each image.
        bounded: they are correctness or fractions; the jackknife values of mean average precision
            may leave [0, 1].

    Raises:
        BadInput: no images, or a score that is not in [0, 1].

    """
    s = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if s.size == 0 or s.ndim != 2:
        raise BadInput(
            f"scores of shape {np.shape(scores)}: expected (images,) or (seeds, images), not empty"
        )
    if bounded and not bool(((s >= 0) & (s <= 1)).all()):
        raise BadInput(
            "a score is NaN or outside 0..1: correctness is 0 or 1, and F1 is a fraction"
        )
    # equal seeds stay exactly 0 or 1
    return np.asarray(s[0] if bool((s == s[0]).all()) else s.mean(axis=0))


def paired_units(d: NDArray[np.float64], level: float = LEVEL) -> Paired:
    """Mean of the differences ``d`` of the images, shape (n,).

    An image is one unit, however many seeds its difference is averaged over: seeds share the
    images, so counting each seed's images as new ones would make the interval too narrow. With b
    and c discordant images, SE = sqrt(b + c - (b - c)^2 / n) / n. The interval is not value +- 1.96
    SE, whose width is 0 when no image changes and which covers too seldom while b + c is small:
    with 2 images of 1,000 expected to change, 4 in 5 of them for the worse, 79 % of the time, where
    Tango's score interval covers 99 %. For many discordant images the two agree. Averages over
    seeds and F1 scores are not 0 or 1, which Tango needs: these take Agresti and Min's adjustment.
    """
    n = d.size
    total, square = float(d.sum()), float((d * d).sum())
    se = math.sqrt(max(square - total**2 / n, 0.0)) / n
    up, down = int((d > 0).sum()), int((d < 0).sum())
    low, high = (
        tango(up, down, n, level)
        if bool(np.isin(d, (-1, 0, 1)).all())
        else _agresti_min(total, square, n, level)
    )
    return Paired(100 * total / n, 100 * low, 100 * high, 100 * se, n, up, down)


def tango(b: int, c: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of (b - c) / n, as fractions.

    Tango, Statistics in Medicine 17, 1998, equations 10 and 11.
    """
    z, estimate = _z(level), (b - c) / n

    def score(d: float) -> float:
        p, q = -b - c + (2 * n - b + c) * d, -c * d * (1 - d)
        # maximum likelihood, given the difference d
        p21 = (math.sqrt(max(p * p - 8 * n * q, 0.0)) - p) / (4 * n)
        variance = n * (2 * p21 + d * (1 - d))
        away = b - c - n * d
        if variance > 0:
            return away / math.sqrt(variance)
        return math.copysign(math.inf, away) if away else 0.0

    first, last = -1 + 1e-12, 1 - 1e-12
    low = -1.0 if score(first) < z else _root(lambda d: score(d) - z, first, estimate)
    high = 1.0 if score(last) > -z else _root(lambda d: score(d) + z, estimate, last)
    return low, high


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function passes zero: halved until no float lies between the ends."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return middle


def _agresti_min(total: float, square: float, n: int, level: float) -> tuple[float, float]:
    """Wald's interval after adding half an image of each of the four kinds: +1, -1, 0 and 0.

    Agresti and Min 2005.
    """
    mean, second = total / (n + 2), (square + 1) / (n + 2)
    half = _z(level) * math.sqrt((second - mean**2) / (n + 2))
    return max(mean - half, -1.0), min(mean + half, 1.0)


def accuracy(scores: ArrayLike, level: float = LEVEL) -> Interval:
    """Accuracy of one network, scores as in :func:`paired`, with Wilson's score interval.

    Fractions (F1, averages over seeds) vary less than correctness of the same mean, so for them it
    is on the safe side.
    """
    x, z = per_image(scores), _z(level)
    n, p = x.size, float(x.mean())
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(
        100 * p,
        100 * (centre - half),
        100 * (centre + half),
        100 * float(x.std()) / math.sqrt(n),
        n,
    )


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
