"""One line of a CI's report, whichever command it is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from quantbench.evidence.verdict import Outcome
from quantbench.gate.finding import QUIET, UNSEEN, Finding

if TYPE_CHECKING:
    from quantbench.report.bench import Row

Level = Literal["error", "warning", "skipped", "passed"]


@dataclass(frozen=True)
class Case:
    """What was looked at, and how it went.

    Attributes:
        group: of cases, such as a paper, or ``cell``.
        name: unique within the group.
        word: verdict or status.
        level: ``error`` fails the command; ``warning`` is to be read and does not.
        text: the details.
        file: that the case stands in, below the working folder; empty where it is in none.
        line: in that file.
        seconds: that it took.

    """

    group: str
    name: str
    word: str
    level: Level
    text: str = ""
    file: str = ""
    line: int = 0
    seconds: float = 0.0


def of_findings(findings: Iterable[Finding]) -> list[Case]:
    """Cases of ``quantbench gate``."""
    return [Case(f.about, f.name, str(f.status), _level(f), f.detail) for f in findings]


def _level(found: Finding) -> Level:
    if found.fails:
        return "error"
    if found.status in UNSEEN:
        return "skipped"
    return "passed" if found.status in QUIET else "warning"


def of_rows(rows: Sequence[Row], crashed: Iterable[tuple[str, str]] = ()) -> list[Case]:
    """Cases of ``quantbench run``: its claims, and tests that ended without a verdict.

    Args:
        rows: verdicts.
        crashed: name and error of each such test.

    """
    cases = [_of_row(row) for row in rows]
    return [*cases, *(Case("run", name, "crashed", "error", text) for name, text in crashed)]


def _of_row(row: Row) -> Case:
    claim, verdict = row.claim, row.verdict
    level: Level = "warning" if verdict.undecided else "passed"
    if verdict.fails:
        level = "error"
    elif verdict.outcome in (Outcome.SKIP, Outcome.XFAIL):
        level = "skipped"
    file, _, line = claim.where.rpartition(":")
    about = (claim.paper, claim.id, str(verdict.outcome), level, verdict.explain())
    return Case(*about, file, int(line) if line.isdigit() else 0, row.seconds)
