"""The table of a sweep: scores and drops over seeds, and what did not run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from quantbench.system.markdown import cell

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.sweeps.plan import Job

HEADER = ("network", "cell", "method", "seeds", "score", "drop", "sd", "seconds", "MB")


@dataclass(frozen=True)
class Brief:
    """What the table needs of a result, whose scores would fill the memory of a long sweep.

    Attributes:
        score: in points.
        drop: from full precision, in points.
        seconds: of the run.
        megabytes: of the quantized network.

    """

    score: float
    drop: float
    seconds: float
    megabytes: float

    @classmethod
    def of(cls, result: Result) -> Brief:
        """Of a result."""
        seconds = sum(result.seconds.values())
        return cls(result.q_top1, result.drop, seconds, result.size_bytes / 1e6)


@dataclass(frozen=True)
class Row:
    """A method on a network with a scheme, over the seeds that are finished.

    Attributes:
        names: network, cell and method.
        scores: by seed, in points.
        drops: by seed, from full precision, in points.
        seconds: mean of a run.
        megabytes: of the quantized network.

    """

    names: tuple[str, str, str]
    scores: Sequence[float]
    drops: Sequence[float]
    seconds: float
    megabytes: float

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of ``HEADER``; a spread needs two seeds."""
        spread = f"{stdev(self.scores):.2f}" if len(self.scores) > 1 else ""
        return (
            *self.names,
            str(len(self.scores)),
            f"{fmean(self.scores):.2f}",
            f"{fmean(self.drops):.2f}",
            spread,
            f"{self.seconds:.1f}",
            f"{self.megabytes:.2f}",
        )


def rows(finished: Iterable[tuple[Job, Brief]]) -> list[Row]:
    """Rows of finished jobs, best first within a network and scheme."""
    found = defaultdict(list)
    for job, brief in finished:
        found[job.row].append(brief)
    table = [
        Row(
            names,
            [r.score for r in runs],
            [r.drop for r in runs],
            fmean(r.seconds for r in runs),
            runs[0].megabytes,
        )
        for names, runs in found.items()
    ]
    return sorted(table, key=lambda row: (row.names[:2], fmean(row.drops)))


def markdown(table: Iterable[Row]) -> str:
    """As a Markdown table."""
    shown = ([cell(text) for text in row.cells()] for row in table)
    lines = [HEADER, tuple("---" for _ in HEADER), *shown]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
