"""A comparison as a value: rows with the score of every example, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput
from quantbench.evidence.intervals import Interval, Paired, accuracy, paired
from quantbench.system.atomic import write_atomically

HEADER = ("network", "bits", "{metric} [95 %]", "drop [95 %]", "against", "MB", "ms", "note")


@dataclass(frozen=True, eq=False)
class Row:
    """One network.

    Attributes:
        name: of what was measured.
        bits: such as ``w8a8``, or ``float32``.
        scores: of every example (n,), in 0..1.
        size: bytes of its weights.
        ms: median time of one example, in milliseconds; None where it was not timed.
        note: one remark.

    """

    name: str
    bits: str
    scores: NDArray[Any]
    size: int = 0
    ms: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rows measured on the same examples; the first is full precision.

    Prints itself as a table, and draws itself as one in a notebook.

    Attributes:
        title: what was compared, on what.
        metric: of the scores.
        rows: in order.
        ours: number of the row that the column ``against`` compares with; 0 for none.
        notes: longer remarks, below the table.

    """

    title: str
    metric: str
    rows: tuple[Row, ...]
    ours: int = 0
    notes: tuple[str, ...] = field(default=())

    def accuracy(self, row: int) -> Interval:
        """The score of a row in points, with its interval."""
        return accuracy(self.rows[row].scores)

    def drop(self, row: int) -> Paired:
        """Full precision less a row, in points, on the same examples."""
        return paired(self.rows[0].scores, self.rows[row].scores)

    def against_ours(self, row: int) -> Paired:
        """A row less our own, in points, on the same examples: positive where it is better."""
        return paired(self.rows[row].scores, self.rows[self.ours].scores)

    def lines(self) -> list[tuple[str, ...]]:
        """Header and rows as text, without columns that are empty throughout."""
        base = self.rows[0]
        body = [tuple(h.format(metric=self.metric) for h in HEADER)]
        for i, row in enumerate(self.rows):
            other = i not in (0, self.ours) and self.ours
            faster = f" ({base.ms / row.ms:.2f}x)" if i and base.ms and row.ms else ""
            body.append(
                (
                    row.name,
                    row.bits,
                    str(self.accuracy(i)),
                    self.drop(i).signed() if i else "",
                    self.against_ours(i).signed() if other else "",
                    f"{row.size / 1e6:.2f}" if row.size else "",
                    f"{row.ms:.3g}{faster}" if row.ms else "",
                    row.note,
                )
            )
        used = [k for k in range(len(HEADER)) if any(line[k] for line in body[1:])]
        return [tuple(line[k] for k in used) for line in body]

    def __str__(self) -> str:
        """Aligned text."""
        body = self.lines()
        widths = [max(map(len, column)) for column in zip(*body, strict=True)]
        padded = (
            "  ".join(text.ljust(n) for text, n in zip(line, widths, strict=True)).rstrip()
            for line in body
        )
        return "\n".join([self.title, *padded, *(f"- {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        head, *body = self.lines()

        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

        rows = "".join(line(cells, "td") for cells in body)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        caption = f"<caption>{escape(self.title)}</caption>"
        table = f"<table>{caption}<thead>{line(head, 'th')}</thead><tbody>{rows}</tbody></table>"
        return table + (f"<ul>{notes}</ul>" if notes else "")

    def save(self, path: Path) -> None:
        """Write all of it as JSON, the score of every example included.

        Raises:
            CannotWrite: the system refuses.

        """
        rows = [{**vars(r), "scores": np.asarray(r.scores, np.float64).tolist()} for r in self.rows]
        write_atomically(path, json.dumps({**vars(self), "rows": rows}, indent=1))

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read what :meth:`save` wrote.

        Raises:
            BadInput: it is anything else.

        """
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            scores = [np.array(row.pop("scores"), np.float64) for row in kept["rows"]]
            rows = [Row(scores=s, **row) for s, row in zip(scores, kept.pop("rows"), strict=True)]
            found = cls(rows=tuple(rows), notes=tuple(kept.pop("notes")), **kept)
            found.lines()  # scores of one length, and whatever else a table needs
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as e:
            raise BadInput(f"{path}: not a comparison ({type(e).__name__}: {e})") from e
        return found
