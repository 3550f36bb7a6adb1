"""What the choice of seeds accounts for: Student's t on the spread of whole runs, in points.

Runs share their images, so the spread between them is that of seeds alone. scipy is asked with
first use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quantbench.claims.claim import Claim
from quantbench.evidence.intervals import LEVEL


@dataclass(frozen=True)
class Spread:
    """The term of seeds.

    Attributes:
        half: half-width of its 95 % interval; 0 where nothing is known of it.
        said: the sentence that says how it came about; empty if seeds play no part.
        at: the half-width that as many seeds as given would have, if their spread stays.

    """

    half: float
    said: str
    at: Callable[[int], float] | None = None


NONE = Spread(0.0, "")


def prediction_half(sd: float, k: int, level: float = LEVEL) -> float:
    """Half-width t sqrt(1 + 1/k) sd of the interval for one further run after k >= 2 runs."""
    return _t(k - 1, level) * math.sqrt(1 + 1 / k) * sd


def mean_half(sd: float, k: int, level: float = LEVEL) -> float:
    """Half-width t sd / sqrt(k) of the interval for the mean over all seeds after k >= 2 runs."""
    return _t(k - 1, level) * sd / math.sqrt(k)


def welch_half(sd: float, k: int, other: float, others: int, level: float = LEVEL) -> float:
    """Half-width of the interval of the difference between two means.

    Args:
        sd: standard deviation of our ``k`` runs. One run has none: it is then the single further
            run, predicted from the spread of the others.
        k: number of our runs.
        other: standard deviation of the ``others`` >= 2 runs that the second mean was taken of.
            Variances may differ: degrees of freedom of Welch and Satterthwaite.
        others: their number.
        level: confidence.

    """
    if k == 1:
        return prediction_half(other, others, level)
    ours, theirs = sd**2 / k, other**2 / others
    if ours + theirs == 0:
        return 0.0
    df = (ours + theirs) ** 2 / (ours**2 / (k - 1) + theirs**2 / (others - 1))
    return _t(df, level) * math.sqrt(ours + theirs)


def spread(values: Sequence[float]) -> float:
    """Standard deviation of runs; 0 of a single one, or of runs that are all equal."""
    return float(np.std(values, ddof=1)) if len(set(values)) > 1 else 0.0


def against_published(claim: Claim, values: Sequence[float]) -> Spread:
    """Our runs, one value each, against a published number, with its spread if one is given."""
    k, s = len(values), spread(values)
    if claim.sd is not None and claim.runs is not None and claim.runs > 1:
        sd, runs = claim.sd, claim.runs
        half = welch_half(s, k, sd, runs)
        theirs = f"published sd {sd:g} over {runs} runs"
        said = f"seeds: {k} of ours with sd {s:.2f}, {theirs}: {half:.2f} (Welch)"
        return Spread(half, said, lambda more: welch_half(s or sd, more, sd, runs))
    if k > 1:
        half = prediction_half(s, k)
        said = f"seeds: {k} of ours with sd {s:.2f}, one published number: {half:.2f}"
        said += f" (t sqrt(1 + 1/{k}) sd)"
        return Spread(half, said, lambda more: prediction_half(s, more))
    if claim.sd is not None:  # over an unknown number of runs: two single runs with that spread
        half = 1.96 * math.sqrt(2) * claim.sd
        said = f"seeds: one of ours, published sd {claim.sd:g}: {half:.2f} (1.96 sqrt(2) sd)"
        return Spread(half, said)
    return Spread(0.0, "seeds: one of ours and one published number, spread unknown: 0")


def of_the_mean(values: Sequence[float]) -> Spread:
    """Our runs as a sample of all seeds, whose mean is asked for."""
    k, s = len(values), spread(values)
    if k == 1:
        return Spread(0.0, "seeds: one, spread unknown: 0")
    half = mean_half(s, k)
    said = f"seeds: {k} with sd {s:.2f}: {half:.2f} (t sd / sqrt({k}))"
    return Spread(half, said, lambda more: mean_half(s, more))


def between(ours: Sequence[float], rivals: Sequence[float]) -> Spread:
    """Our runs against those of a rival."""
    if min(len(ours), len(rivals)) == 1:
        return Spread(0.0, "seeds: one seed, spread unknown: 0")
    s, other = spread(ours), spread(rivals)
    half = welch_half(s, len(ours), other, len(rivals))
    both = f"{len(ours)} of ours with sd {s:.2f}, {len(rivals)} of the rival's with sd {other:.2f}"
    return Spread(half, f"seeds: {both}: {half:.2f} (Welch)")


def _t(df: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))
