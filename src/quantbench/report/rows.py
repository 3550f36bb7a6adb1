"""One line of the table of verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.evidence.result import Result
    from quantbench.evidence.verdict import Verdict
    from quantbench.runs.cell import Cell


@dataclass
class Row:
    """One line of the final table; ``against`` are the rival's runs."""

    claim: Claim
    verdict: Verdict
    cells: dict[int, Cell]
    runs: dict[int, Result]
    seconds: float
    against: dict[int, Result] = field(default_factory=dict)
