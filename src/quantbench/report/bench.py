"""What a bench test talks to: it judges claims, and keeps what the report will show."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from quantbench.errors import DataMissing, Unsupported

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.evidence.result import Result
    from quantbench.evidence.verdict import Verdict
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab


@dataclass
class Row:
    """One line of the final table; ``against`` are the rival's runs, ``others`` its cells."""

    claim: Claim
    verdict: Verdict
    cells: dict[int, Cell]
    runs: dict[int, Result]
    seconds: float
    against: dict[int, Result] = field(default_factory=dict)
    others: dict[int, Cell] = field(default_factory=dict)


class Listener(Protocol):
    """Told what happens, such as the status line on the terminal."""

    def claim(self, label: str) -> None:
        """A new claim begins."""
        ...

    def line(self, row: Row) -> None:
        """A claim has its verdict."""
        ...


@dataclass
class Bench:
    """The lab, the terminal, and the verdicts so far.

    Attributes:
        lab: runs cells.
        status: told what happens.
        finished: judge finished cells only, start none.
        rows: one for each claim that was judged, in order.
        cells: those of these claims, by paper.

    """

    lab: Lab
    status: Listener
    finished: bool = False
    rows: list[Row] = field(default_factory=list)
    cells: list[tuple[str, Cell]] = field(default_factory=list)

    @property
    def lacks_data(self) -> bool:
        """Whether nothing was judged of what was asked to run, and for want of data at that."""
        from quantbench.evidence.verdict import Outcome

        verdicts = [row.verdict for row in self.rows]
        away = any(verdict.command for verdict in verdicts)  # that brings data
        return away and not self.finished and all(v.outcome == Outcome.SKIP for v in verdicts)

    def judge(self, claim: Claim) -> Verdict:
        """Run a claim's cells, or take them from the ledger, and judge them."""
        from quantbench.evidence.judge import judge
        from quantbench.evidence.verdict import refused, skipped

        start = time.perf_counter()
        cells, rivals = dict[int, "Cell"](), dict[int, "Cell"]()
        runs, against = dict[int, "Result"](), dict[int, "Result"]()
        try:
            cells, rivals = ({}, {}) if claim.skip else self.lab.cells(claim)
            self.status.claim(claim.id)
            runs, against = self._results(claim, cells), self._results(claim, rivals)
            verdict = judge(claim, runs, against)  # a claim with a reason to skip is skipped
        except DataMissing as e:
            verdict = skipped(claim, f"{e.name} is not here", e.command)
        except Unsupported as e:
            verdict = refused(claim, str(e))
        row = Row(claim, verdict, cells, runs, time.perf_counter() - start, against, rivals)
        self.rows.append(row)
        self.status.line(row)
        return verdict

    def _results(self, claim: Claim, cells: dict[int, Cell]) -> dict[int, Result]:
        """Results by seed: all of them, or only those that are finished."""
        self.cells += [(claim.paper, c) for c in cells.values()]
        read = self.lab.ledger.get if self.finished else self.lab.result
        return {s: r for s, c in cells.items() if (r := read(c))}
