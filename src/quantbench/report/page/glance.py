"""The state at a glance: counts, what is missed, and what would decide the undecided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.evidence.verdict import Outcome
from quantbench.report.charts.spec import Chart
from quantbench.report.charts.verdicts import ALL, GROUPS, verdicts
from quantbench.report.page.found import Found


@dataclass(frozen=True)
class Tile:
    """One number of the top line."""

    number: int
    word: str
    kind: str
    note: str = ""


def tiles(every: Sequence[Found]) -> list[Tile]:
    """What was judged, in numbers, misses first."""
    groups = Counter(f.group for f in every if f.judged)
    failing = sum(f.row.verdict.fails for f in every)
    resting = sum(f.row.verdict.undecided for f in every)
    skipped = sum(not f.judged for f in every)
    return [
        Tile(groups["missed"], "missed", "misses", f"{failing} of them gate"),
        Tile(groups["undecided"], "undecided", "open", f"{resting} of them gate"),
        Tile(groups["known miss"], "known misses", "known", "kept as they were found"),
        Tile(groups["tie or behind"], "ties or behind", "behind", "comparisons for the record"),
        Tile(groups["agrees"], "agree", "agrees", _agreement(every)),
        Tile(skipped, "skipped", "skip", "each with its reason"),
    ]


def _agreement(every: Sequence[Found]) -> str:
    outcomes = (Outcome.REPRODUCED, Outcome.CONSISTENT, Outcome.HOLDS, Outcome.AHEAD)
    counts = Counter(f.row.verdict.outcome for f in every)
    return ", ".join(f"{counts[o]} {o.lower()}" for o in outcomes if counts[o])


def by_paper(every: Sequence[Found]) -> Chart | None:
    """Counts of every paper and tier; ``None`` where nothing was judged."""
    some = [f for f in every if f.judged]
    if not some:
        return None
    counts = Counter((f.claim.paper, tier, f.group) for f in some for tier in (ALL, f.claim.tier))
    named = ("paper", "tier", "group")
    rows: list[dict[str, str | int]] = [
        {**dict(zip(named, key, strict=True)), "count": n} for key, n in counts.items()
    ]
    return verdicts(rows, sorted({f.claim.tier for f in some}))


@dataclass(frozen=True)
class PaperCount:
    """One line of the table of counts."""

    paper: str
    tier: str
    counts: tuple[int, ...]  # by GROUPS, then skipped

    @property
    def order(self) -> tuple[int, ...]:
        """Misses first, then what is undecided."""
        return tuple(-n for n in self.counts)


def counts(every: Sequence[Found]) -> list[PaperCount]:
    """Every paper and tier of which something was judged, misses first."""
    groups: Counter[tuple[str, str, str]] = Counter()
    for f in every:
        groups[f.claim.paper, f.claim.tier, f.group if f.judged else "skipped"] += 1
    words = (*GROUPS, "skipped")
    lines = [
        PaperCount(paper, tier, tuple(groups[paper, tier, word] for word in words))
        for paper, tier in dict.fromkeys((paper, tier) for paper, tier, _ in groups)
    ]
    return sorted((x for x in lines if sum(x.counts[:-1])), key=lambda x: (x.order, x.paper))
