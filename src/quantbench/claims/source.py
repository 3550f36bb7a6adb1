"""Where a published number comes from, and what may rest on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reported = Literal["authors", "third-party", "data", "project"]

Status = Literal["read", "second-hand", "recalled"]


@dataclass(frozen=True)
class Source:
    """Where a number stands and how far it can be trusted.

    Attributes:
        paper: publication or repository, as one would cite it.
        table: table, figure or section in it.
        row: row of that table.
        column: column of that table.
        reported: ``authors`` of the method, a ``third-party`` that re-ran it, the publisher of the
            ``data`` at hand, or this ``project``, which sets itself a target.
        status: ``read`` in the source or in a quotation of its words or tables; ``second-hand``,
            retold by a summary; or ``recalled``. The last two are still to be confirmed.
        seen: where exactly it was read, which may be somebody quoting the paper.

    """

    paper: str
    table: str
    row: str
    column: str
    reported: Reported
    status: Status
    seen: str

    @property
    def may_gate(self) -> bool:
        """Whether a verdict may rest on it: never on a re-run by others, a summary or memory."""
        return self.status == "read" and self.reported != "third-party"

    def __str__(self) -> str:
        """One sentence for the report."""
        row = self.row and f"row {self.row}"
        place = ", ".join(x for x in (self.paper, self.table, row, self.column) if x)
        seen = f" in {self.seen}" if self.seen else ""
        return f"{place}; reported by {self.reported}; {self.status}{seen}"
