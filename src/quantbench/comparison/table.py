"""A comparison as a value: rows with the score of every example, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput
from quantbench.evidence.intervals import Interval, Paired, accuracy, paired
from quantbench.system.atomic import write_atomically
from quantbench.system.text_table import GAP, WIDTH, text_table

_WRAPPED: dict[str, Any] = {"subsequent_indent": "  ", "break_on_hyphens": False}

# whatever a file that anyone may have written can bring about
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

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
        """A table that fits a terminal."""
        head, *body = self.lines()
        if sum(max(map(len, column)) + GAP for column in zip(head, *body, strict=True)) > WIDTH:
            head, *body = (tuple(map(_narrow, line)) for line in (head, *body))
        # words may be folded, numbers are not
        whole = [i for i, name in enumerate(head) if name not in ("network", "note")]
        notes = [line for note in self.notes for line in wrap(f"- {note}", WIDTH, **_WRAPPED)]
        return "\n".join([*wrap(self.title, WIDTH), *text_table(head, body, whole=whole), *notes])

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

    def _require_texts(self) -> None:
        """Raise TypeError where a word of the table is something else."""
        rows = [text for row in self.rows for text in (row.name, row.bits, row.note)]
        for text in (self.title, self.metric, *self.notes, *rows):
            if not isinstance(text, str):
                raise TypeError(f"{text!r} is no text")

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
            found._require_texts()
            str(found).encode()  # scores of one length, and whatever else a table needs
        except (*DAMAGE, OSError) as e:
            raise BadInput(f"{path}: not a comparison ({type(e).__name__}: {e})") from e
        return found


def _narrow(text: str) -> str:
    """A cell in lines that break where a reader would: before an interval, before a factor."""
    return text.replace(" [", "\n[").replace(" (", "\n(")
