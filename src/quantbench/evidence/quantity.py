"""What of our runs is compared with a number: the drop, an accuracy, or what a run wrote down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantbench.claims.claim import NEGATIVE, PERCENT, Claim
from quantbench.evidence import estimates
from quantbench.evidence.estimates import Runs
from quantbench.evidence.intervals import Interval, exact

MORE_IS_BETTER = ("top1_gain", "int4_layers", *PERCENT, *NEGATIVE)


@dataclass(frozen=True)
class Quantity:
    """What of our runs is compared with what of the source.

    ``values`` are by seed, ``given`` is a range, mostly of a single number.
    """

    what: str
    ours: Interval
    values: list[float]
    given: tuple[float, float]
    more_is_better: bool


def quantity(claim: Claim, runs: Runs) -> Quantity | None:
    """The drop wherever the source gives one, else the metric; ``None`` if no run recorded it."""
    low = claim.value or 0.0
    given = low, low if claim.value_to is None else claim.value_to
    if claim.kind == "fp":
        ours, what = estimates.fp_accuracy(runs), "full-precision accuracy"
        return Quantity(what, ours, [ours.value], given, more_is_better=True)
    measured = next(iter(runs.values())).metric
    if claim.metric not in (measured, f"{measured}_drop"):
        return _recorded(claim, runs, given)
    if claim.drop is None:
        accuracies = [r.q_top1 for r in runs.values()]
        return Quantity(
            "accuracy", estimates.accuracy(runs), accuracies, given, more_is_better=True
        )
    if not claim.metric.endswith("_drop"):
        fp = claim.fp or 0.0
        given = fp - given[1], fp - given[0]
    drops = [r.drop for r in runs.values()]
    return Quantity("drop", estimates.drop(runs), drops, given, more_is_better=False)


def _recorded(claim: Claim, runs: Runs, given: tuple[float, float]) -> Quantity | None:
    """A number that the runs wrote down, which is no mean over images."""
    values = [float(r.extra[claim.metric]) for r in runs.values() if claim.metric in r.extra]
    if len(values) < len(runs):
        return None
    ours = exact(float(np.mean(values)), len(values))
    better = claim.metric in MORE_IS_BETTER
    return Quantity(claim.metric, ours, values, given, more_is_better=better)
