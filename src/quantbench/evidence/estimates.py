"""What the runs of one claim say together, each quantity with its interval.

The quantities are drop, accuracy and advantage over a rival. Images are the units, seeds are
averaged per image; rank correlations and the mean intersection over union, being no means over
examples, are bootstrapped, and mean average precision comes as jackknife values, of which it is the
mean. Log-likelihoods have no bounds, which the intervals of fractions need: they are bootstrapped
over windows of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput
from quantbench.evidence import intervals
from quantbench.evidence.bootstrap import (
    bootstrap,
    drawn_iou,
    drawn_ranks,
    drawn_spearman,
    times_drawn,
)
from quantbench.evidence.intervals import Interval, paired, paired_units, per_image
from quantbench.evidence.result import Result
from quantbench.system.seeds import seed_for

Runs = Mapping[int, Result]  # by seed

Term = tuple[float, NDArray[Any]]  # weight, scores (n,)


UNBOUNDED = ("log_likelihood",)  # metrics that are means over examples of any size


def drop(runs: Runs) -> Interval:
    """Full precision minus quantized, in points."""
    first = _first(runs)
    if _drawn(first):
        return _bootstrapped(first, [(1.0, first.fp_scores), *_weighted(-1.0, runs)])
    return paired(first.fp_scores, _scores(runs), bounded=_bounded(first))


def accuracy(runs: Runs) -> Interval:
    """The quantized network's metric, in points."""
    first = _first(runs)
    if _drawn(first):
        return _bootstrapped(first, _weighted(1.0, runs))
    return _mean(first, _scores(runs))


def fp_accuracy(runs: Runs) -> Interval:
    """The full-precision network's metric, in points."""
    first = _first(runs)
    if _drawn(first):
        return _bootstrapped(first, [(1.0, first.fp_scores)])
    return _mean(first, first.fp_scores)


def advantage(ours: Runs, rivals: Runs) -> Interval:
    """The rival's drop minus ours on the same examples, in points: positive where ours is better.

    Raises:
        BadInput: the two were not measured on the same examples.

    """
    a, b = _first(ours), _first(rivals)
    if (a.n, a.metric, a.gold) != (b.n, b.metric, b.gold):
        alike = (a.n, a.metric) == (b.n, b.metric)
        theirs = "as many with other reference scores" if alike else f"{b.n} ({b.metric})"
        raise BadInput(
            f"{a.n} examples ({a.metric}) against {theirs}: a rival runs on the same examples"
        )
    if _drawn(a):
        references = [(-1.0, a.fp_scores), (1.0, b.fp_scores)]
        return _bootstrapped(a, [*_weighted(1.0, ours), *_weighted(-1.0, rivals), *references])
    scores = (_scores(ours), _scores(rivals), a.fp_scores, b.fp_scores)
    own, other, full, full_other = (per_image(s, bounded=_bounded(a)) for s in scores)
    # the last is zero, unless devices round differently
    return paired_units(own - other - (full - full_other))


def _drawn(result: Result) -> bool:
    """Whether the interval comes from draws of examples: no mean over them, or one of any size."""
    return bool(result.gold) or result.metric in ("miou", *UNBOUNDED)


def _bounded(result: Result) -> bool:
    """Whether scores are correctness or fractions."""
    return result.metric != "map"


def _mean(first: Result, scores: NDArray[Any]) -> Interval:
    """Mean over the examples, with its interval."""
    if _bounded(first):
        return intervals.accuracy(scores)
    return paired_units(per_image(scores, bounded=False))


def _first(runs: Runs) -> Result:
    if not runs:
        raise BadInput("no finished run to judge")
    first = next(iter(runs.values()))
    if any((r.n, r.metric) != (first.n, first.metric) for r in runs.values()):
        raise BadInput(
            "runs of one claim were measured on different examples: "
            "run them again with the same data"
        )
    return first


def _scores(runs: Runs) -> NDArray[Any]:
    return np.stack([r.scores for r in runs.values()])


def _weighted(sign: float, runs: Runs) -> list[Term]:
    return [(sign / len(runs), r.scores) for r in runs.values()]


def _windows(terms: Sequence[Term]) -> Interval:
    """Bootstrap of a weighted sum of means, over the same windows of a text in all of them."""
    each = np.sum([weight * np.asarray(s, np.float64) for weight, s in terms], axis=0)
    rng = np.random.default_rng(seed_for("bootstrap", 0))
    return bootstrap(lambda drawn: 100 * drawn.mean(axis=-1), each, rng=rng)


def _bootstrapped(first: Result, terms: Sequence[Term]) -> Interval:
    """Bootstrap of a weighted sum of rank correlations with the gold, overlaps or means."""
    if first.metric in UNBOUNDED:
        return _windows(terms)

    def overlap(times: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.asarray(np.sum([w * drawn_iou(s, times) for w, s in terms], axis=0))

    def correlation(times: NDArray[np.intp]) -> NDArray[np.float64]:
        gold = drawn_ranks(first.gold_scores, times)
        found = ((w, drawn_ranks(s, times)) for w, s in terms)
        return np.asarray(np.sum([w * drawn_spearman(s, gold, times) for w, s in found], axis=0))

    statistic = overlap if first.metric == "miou" else correlation
    rng = np.random.default_rng(seed_for("bootstrap", 0))
    rows = np.arange(first.n)
    return bootstrap(lambda drawn: statistic(times_drawn(drawn)), rows, rng=rng, draws=1000)
