"""What the page shows of each claim: judged in this folder of runs, or from the accepted baseline.

The baseline holds the scores of every accepted cell, so a claim that was not run here is judged
from them again, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from quantbench.claims.claim import Claim
from quantbench.errors import QuantbenchError
from quantbench.evidence.estimates import Runs
from quantbench.evidence.intervals import Interval
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import AGREES, MISSES, Outcome, Verdict
from quantbench.gate.accepted import Accepted
from quantbench.gate.baseline import Baseline
from quantbench.report import table
from quantbench.report.bench import Row
from quantbench.report.page.kept import kept
from quantbench.runs.lab import Lab
from quantbench.system.progress import Progress, silent

WORDS = {
    "misses": "missed",
    "open": "undecided",
    "known": "known miss",
    "behind": "tie or behind",
    "agrees": "agrees",
}

Event = Mapping[str, Any]  # value, date, commit, kind, why


@dataclass(frozen=True)
class Found:
    """A claim with its verdict.

    Attributes:
        row: claim, verdict and runs.
        accepted: whether the runs are those of the accepted baseline, and none of this folder.
        history: of its first run, as it was accepted, oldest first.

    """

    row: Row
    accepted: bool = False
    history: tuple[Event, ...] = field(default=())

    @property
    def claim(self) -> Claim:
        """The claim."""
        return self.row.claim

    @property
    def judged(self) -> bool:
        """Whether there is a verdict on it."""
        return self.row.verdict.outcome != Outcome.SKIP

    @property
    def kind(self) -> str:
        """``agrees``, ``misses``, ``known``, ``behind`` or ``open``."""
        outcome = self.row.verdict.outcome
        if outcome == Outcome.XFAIL:
            return "known"
        if self.claim.kind == "order" and outcome in (Outcome.TIE, Outcome.BEHIND):
            return "behind"  # for the record: nothing was asked
        return "agrees" if outcome in AGREES else "misses" if outcome in MISSES else "open"

    @property
    def group(self) -> str:
        """The same in the words of the counts."""
        return WORDS[self.kind]

    @cached_property
    def anchor(self) -> str:
        """Where it stands on the page."""
        return self.claim.id.replace("/", "--").replace(" ", "_")

    @property
    def scheme(self) -> str:
        """Short name of its scheme."""
        return table.scheme(self.claim)


def found(
    rows: Sequence[Row], baseline: Baseline, lab: Lab, progress: Progress = silent
) -> list[Found]:
    """Every row, in order; where none of a claim's runs is here, those that were accepted."""
    parted = {tuple(i.split("/fp/full-precision/")): cell for i, cell in baseline.cells.items()}
    whole = {(p[0], p[1].rpartition("/")[0]): cell for p, cell in parted.items() if len(p) == 2}
    every = []
    for number, row in enumerate(rows, start=1):
        place = row.claim.model, row.claim.data
        every.append(_found(row, baseline, whole[place], lab) if place in whole else Found(row))
        progress(number, len(rows), "judging what was accepted")
    return every


def _found(row: Row, baseline: Baseline, whole: Accepted, lab: Lab) -> Found:
    """One row, where full precision is accepted of its network."""
    history: tuple[Event, ...] = ()
    try:
        cells = [baseline.cells.get(i) for i in lab.ids(row.claim)]
        history = tuple(cells[0].history) if cells and cells[0] else ()
        if row.verdict.outcome != Outcome.SKIP or not all(cells):
            return Found(row, history=history)
        return _accepted(row, [cell for cell in cells if cell], whole, history)
    except (QuantbenchError, ValueError, TypeError, KeyError):  # of scores that are damaged
        return Found(row, history=history)


def _accepted(
    row: Row, cells: Sequence[Accepted], whole: Accepted, history: tuple[Event, ...]
) -> Found:
    """The verdict on accepted scores; none where they are not of full precision's examples."""
    if any(cell.examples != whole.examples for cell in cells):
        return Found(row, history=history)
    results = [_result(cell, whole) for cell in cells]
    seeds, claim = row.claim.seeds, replace(row.claim, skip="")
    own = dict(zip(seeds, results[: len(seeds)], strict=True))
    against = dict(zip(seeds, results[len(seeds) :], strict=False))
    verdict = _judged(claim, own, against)
    return Found(Row(claim, verdict, {}, own, 0.0, against), accepted=True, history=history)


def _judged(claim: Claim, own: Runs, against: Runs) -> Verdict:
    """The verdict, which is kept: draws of examples take seconds, and accepted scores stay."""
    scores = [(s, r.fp, r.quantized, r.gold) for runs in (own, against) for s, r in runs.items()]
    plain = kept(
        "quantbench.evidence.judge",
        repr((claim, scores)),
        lambda: asdict(judge(claim, own, against)),
    )
    named = {f.name for f in fields(Interval)}
    for name in ("ours", "difference"):
        if found := plain[name]:
            plain[name] = Interval(**{k: v for k, v in found.items() if k in named})
    allowed = plain["allowed"] and tuple(plain["allowed"])
    known = {"outcome": Outcome(plain["outcome"]), "parts": tuple(plain["parts"])}
    return Verdict(**{**plain, **known, "allowed": allowed})


def _result(cell: Accepted, whole: Accepted) -> Result:
    """An accepted run beside full precision; what was not accepted is not known."""
    scores = (whole.scores, cell.scores, cell.gold)
    return Result("", cell.metric, cell.n, cell.packing, *scores)


def judged(every: Sequence[Found]) -> Iterator[Found]:
    """Those with a verdict, misses first."""
    order = list(WORDS)
    return iter(sorted((f for f in every if f.judged), key=lambda f: order.index(f.kind)))
