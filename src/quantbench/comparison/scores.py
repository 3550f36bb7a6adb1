"""Scores that another tool measured, one line an example: read, checked, set beside ours.

Such numbers are a third party's. They are shown, and no verdict, baseline or gate ever reads them.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantbench.comparison.table import Comparison, Row
from quantbench.errors import BadInput

LABEL = "label"  # the column that proves the order of the examples

PARTY = "third party"  # what is noted of their rows

BITS = re.compile(r"w\d+(a\d+)?|float32")


@dataclass(frozen=True, eq=False)
class Scores:
    """The columns of a file.

    Attributes:
        path: of the file.
        columns: scores (n,), in 0..1, by the heads of their columns.
        labels: of the examples, (n,), where the file has them.

    """

    path: Path
    columns: dict[str, NDArray[np.float64]]
    labels: NDArray[np.float64] | None = None

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(next(iter(self.columns.values())))

    def bits(self) -> set[str]:
        """Bits that the heads end with."""
        return {bits_of(head) for head in self.columns}


def bits_of(head: str) -> str:
    """The last word of a column's head, where it is one such as ``w4a8``; else nothing."""
    last = head.rsplit(maxsplit=1)[-1]
    return last if BITS.fullmatch(last) else ""


def read_scores(path: Path) -> Scores:
    """Read a CSV: a head for every column, then a line for every example, in the set's order.

    Raises:
        BadInput: it cannot be read, or a value is no score; with the line.

    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{path} cannot be read as a CSV: {e}") from e
    if len(lines) < 2:
        raise BadInput(f"{path} has {len(lines)} lines: a head and one line an example are needed")
    head, *body = lines
    if "" in head or len(set(head)) < len(head):
        raise BadInput(f"{path}: every column needs a head of its own, not {', '.join(head)}")
    values = np.array([_numbers(path, i, head, line) for i, line in enumerate(body, start=2)])
    columns = dict(zip(head, values.T, strict=True))
    labels = columns.pop(LABEL, None)
    if not columns:
        raise BadInput(f"{path} has no column of scores beside {LABEL!r}")
    for name, column in columns.items():
        if len(outside := np.flatnonzero((column < 0) | (column > 1))):
            i = int(outside[0])
            raise BadInput(
                f"{path}, example {i + 1} of {len(body)}, column {name!r}: {column[i]:g} is no "
                "score in 0..1 (1 for right, 0 for wrong; fractions for F1, not percent)"
            )
    return Scores(path, columns, labels)


def _numbers(path: Path, number: int, head: Sequence[str], line: Sequence[str]) -> list[float]:
    if len(line) != len(head):
        raise BadInput(f"{path}, line {number}: {len(line)} values for {len(head)} columns")
    found = []
    for name, cell in zip(head, line, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadInput(f"{path}, line {number}, column {name!r}: {cell!r} is no number")
        found.append(value)
    return found


def beside(
    scores: Scores,
    title: str,
    metric: str,
    full: Row,
    ours: Sequence[Row],
    labels: NDArray[np.int64] | None = None,
) -> Comparison:
    """Their rows below ours, on the same examples.

    Args:
        scores: theirs.
        title: what was measured, on what.
        metric: of the scores.
        full: our full precision, which every drop is taken from.
        ours: our finished runs, best first.
        labels: of the set, (n,); None where an example has no single one.

    Raises:
        BadInput: another number of examples, or another order of them.

    """
    path, n = scores.path, len(full.scores)
    if scores.n != n:
        raise BadInput(f"{path} has {scores.n:,} examples; {title}: {n:,}")
    order = "the order of the lines is taken on trust"
    if scores.labels is not None:
        _same_order(scores, title, labels)
        order = "the labels are those of the set"
    theirs = [
        Row(
            head.removesuffix(bits_of(head)).strip() or path.stem, bits_of(head), column, note=PARTY
        )
        for head, column in scores.columns.items()
    ]
    alike = {row.bits for row in (*ours, *theirs)} - {"float32"}
    note = f"{path.name} was measured by others, not here; {order}; no verdict reads it"
    rows = (full, *ours, *theirs)
    return Comparison(title, metric, rows, 1 if ours and len(alike) == 1 else 0, (note,))


def _row(head: str, column: NDArray[np.float64], file: str) -> Row:
    """Their row, named after the column's head or, where that is bits alone, after the file."""
    bits = bits_of(head)
    return Row(head.removesuffix(bits).strip() or file, bits, column, note=PARTY)


def _same_order(scores: Scores, title: str, labels: NDArray[np.int64] | None) -> None:
    """Raise BadInput unless the file has the labels of the set, one by one."""
    if labels is None:
        raise BadInput(
            f"{scores.path}: the examples of {title} have no single label to compare with; leave "
            f"the column {LABEL!r} out"
        )
    assert scores.labels is not None
    if len(other := np.flatnonzero(scores.labels != labels)):
        i = int(other[0])
        raise BadInput(
            f"{scores.path}: the label of example {i + 1} is {scores.labels[i]:g}, in the set it "
            f"is {labels[i]}, and {len(other):,} of {scores.n:,} differ: bring the lines into the "
            "set's order"
        )
