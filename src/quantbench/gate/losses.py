"""Has anything been lost? Paired tests of each cell alone and of all cells together.

They decide where bits cannot: on another kind of machine, and against the best ever accepted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.evidence.bootstrap import bootstrap, mean_iou, spearman
from quantbench.evidence.intervals import Interval
from quantbench.evidence.significance import (
    holm,
    normal_loss,
    sign,
    smallest_loss,
    smallest_normal_loss,
)
from quantbench.system.seeds import seed_for

ALONE = 0.005  # chance that any cell alarms without cause, over all of them
TOGETHER = 0.005  # chance that the test of all together does; with ALONE, one in a hundred

# Points that another kind of machine may cost a cell. docs/statistics.md has the measurement.
MARGIN = 0.2

# A cell of which two accepted kinds of machines answer more than this share of the examples
# otherwise is another draw on each: what is learnt in it follows from last bits.
ANEW = 0.005

SPREAD = 0.3  # standard deviation of such draws, in points; measured there, too

SAME = 1e-4  # scores that are no correctness differ by more where they differ: 0.01 points


@dataclass(frozen=True)
class Pair:
    """Scores of the same examples, accepted and now, (n,) each.

    Attributes:
        before: accepted.
        now: of the run; both (n, 3 C) for ``miou``.
        metric: as of :class:`quantbench.evidence.result.Result`.
        examples: digest of the set that the scores are of.
        gold: reference similarities, for ``spearman`` only.
        spread: points by which kinds of machines differ in this cell without a cause (sd).

    """

    before: NDArray[Any]
    now: NDArray[Any]
    metric: str
    examples: str
    gold: NDArray[Any] | None = None
    spread: float = 0.0

    @property
    def drawn(self) -> bool:
        """Whether the metric is no mean over examples, and its spread comes from draws of them."""
        return self.gold is not None or self.metric == "miou"

    def differences(self) -> NDArray[np.float64]:
        """What each example lost, (n,): of its score, or of its own mean overlap."""
        if self.metric == "miou":
            before, now = (mean_iou(s[:, None]) / 100 for s in (self.before, self.now))
            return np.asarray(before - now)
        return np.asarray(np.subtract(self.before, self.now, dtype=np.float64))

    def drawn_loss(self, rng: np.random.Generator) -> Interval:
        """The loss of a metric that is no mean, in points."""
        if self.gold is None:
            return bootstrap(lambda a, b: mean_iou(a) - mean_iou(b), self.before, self.now, rng=rng)
        return bootstrap(
            lambda gold, a, b: spearman(a, gold) - spearman(b, gold),
            *(self.gold, self.before, self.now),
            rng=rng,
        )


@dataclass(frozen=True)
class Loss:
    """What a cell lost, in points.

    Attributes:
        value: positive for a loss.
        se: its standard error.
        lost: examples that scored more before.
        won: examples that score more now.
        n: examples.
        exact: whether scores are correctness, which the sign test takes.
        spread: as of :class:`Pair`; the sign test, which knows only of images, is not for it.

    """

    value: float
    se: float
    lost: int
    won: int
    n: int
    exact: bool
    spread: float = 0.0

    @property
    def whole_se(self) -> float:
        """Standard error, kinds of machines and all."""
        return math.hypot(self.se, self.spread)

    @property
    def discordant(self) -> float:
        """Share of the examples that differ."""
        return (self.lost + self.won) / self.n

    @property
    def p(self) -> float:
        """One-sided p-value of a loss above the margin."""
        if self.exact and not self.spread:
            return sign(self.lost, self.won, self.n, MARGIN)
        return normal_loss(self.value, self.whole_se, MARGIN)

    @property
    def p_gain(self) -> float:
        """The same of a gain."""
        if self.exact and not self.spread:
            return sign(self.won, self.lost, self.n, MARGIN)
        return normal_loss(-self.value, self.whole_se, MARGIN)

    def finds(self, cells: int) -> float:
        """The smallest loss that is found in 90 % of cases, among so many cells, in points."""
        if self.exact and not self.spread:
            # what differs beyond the loss itself
            rest = max(self.lost + self.won - abs(self.lost - self.won), 1) / self.n
            return smallest_loss(self.n, rest, ALONE / cells, MARGIN)
        return smallest_normal_loss(self.whole_se, ALONE / cells, MARGIN)


def loss(pair: Pair) -> Loss:
    """What a cell lost since it was accepted."""
    each = pair.differences()
    if pair.drawn:
        found = pair.drawn_loss(np.random.default_rng(seed_for("bootstrap", 0)))
        value, se = found.value, found.se
    else:
        value, se = 100 * float(each.mean()), 100 * float(each.std()) / len(each) ** 0.5
    lost, won = int((each > SAME).sum()), int((each < -SAME).sum())
    exact = pair.before.dtype == np.bool_
    return Loss(value, se, lost, won, len(each), exact, pair.spread)


def corrected(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values, by name."""
    return dict(zip(p, holm(list(p.values())), strict=True))


@dataclass(frozen=True)
class Pooled:
    """What all cells lost on average, in points; ``p`` of a loss above the margin."""

    value: float
    se: float
    cells: int

    @property
    def p(self) -> float:
        """One-sided."""
        return normal_loss(self.value, self.se, MARGIN / 2)

    @property
    def finds(self) -> float:
        """The smallest loss of all cells that is found in 90 % of cases, in points."""
        return smallest_normal_loss(self.se, TOGETHER, MARGIN / 2)


def pooled(pairs: Sequence[Pair]) -> Pooled:
    """The mean loss over cells; an example is one unit, in however many cells it is scored."""
    total, variance = 0.0, sum(p.spread**2 for p in pairs)
    drawn = [loss(p) for p in pairs if p.drawn]
    for one in drawn:
        total, variance = total + one.value, variance + one.se**2
    for examples in {p.examples for p in pairs if not p.drawn}:
        same = [p for p in pairs if not p.drawn and p.examples == examples]
        each = 100 * np.sum([np.subtract(p.before, p.now, dtype=float) for p in same], axis=0)
        total += float(each.mean())
        variance += float(each.var()) / len(each)
    return Pooled(total / len(pairs), variance**0.5 / len(pairs), len(pairs))
