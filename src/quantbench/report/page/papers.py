"""Each paper's tables: what was published and what is found here, laid out as the paper has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantbench.report import table
from quantbench.report.charts.forest import BETWEEN, Line, forest
from quantbench.report.charts.spec import Chart
from quantbench.report.page.found import Found

MANY = 60  # lines of one forest plot


@dataclass(frozen=True)
class PaperTable:
    """One table of a source.

    Attributes:
        paper: short name.
        title: the source and its table.
        columns: as the source heads them.
        rows: name, and the claims of every column.
        forest: the plot of those that were judged.
        own: whether it is no source's but this project's.

    """

    paper: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Found, ...], ...]], ...]
    forest: tuple[Chart, ...]
    own: bool = False

    @property
    def judged(self) -> int:
        """How many of its claims have a verdict."""
        return sum(f.judged for _, cells in self.rows for cell in cells for f in cell)


def paper_tables(every: Sequence[Found]) -> list[PaperTable]:
    """Every table of which some claim was judged, in the order of the claims."""
    groups: dict[tuple[str, str, str, bool], list[Found]] = defaultdict(list)
    for one in every:
        source = one.claim.source
        own = source.reported == "project"
        groups[one.claim.paper, source.paper, source.table, own].append(one)
    made = [
        _table(*about, group) for about, group in groups.items() if any(f.judged for f in group)
    ]
    return sorted(made, key=lambda t: t.own)  # published tables first


def _table(paper: str, source: str, name: str, own: bool, group: Sequence[Found]) -> PaperTable:
    """Rows and columns in the order in which the source has them."""
    places = {one.claim.id: _place(one) for one in group}
    cells: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in group:
        cells[places[one.claim.id]].append(one)
    shown = [places[one.claim.id] for one in group if one.judged or not own]
    rows, columns = (tuple(dict.fromkeys(part)) for part in zip(*shown, strict=True))
    body = tuple((row, tuple(tuple(cells[row, c]) for c in columns)) for row in rows)
    title = f"{source}: {name}" if name else source
    if own:
        title = f"This project's own claims: {name}"
    return PaperTable(paper, title, columns, body, _forests(f"{paper}: {title}", group), own)


def _place(one: Found) -> tuple[str, str]:
    """Row and column of a claim; this project's own claims have networks for columns."""
    claim, source = one.claim, one.claim.source
    if source.reported == "project":
        tail = claim.id.rpartition("/")[2].removeprefix("here-")
        return f"{one.scheme} {tail}", f"{claim.model} on {claim.data}"
    row = source.row or f"{one.scheme} {claim.method or 'full precision'}"
    return row, source.column or claim.model


def _forests(title: str, group: Sequence[Found]) -> tuple[Chart, ...]:
    """One plot, or several where there are too many lines for one."""
    lines = _unique([line for one in group if (line := _line(one))])
    parts = [lines[i : i + MANY] for i in range(0, len(lines), MANY)]
    names = [title if len(parts) == 1 else f"{title}, part {i + 1}" for i in range(len(parts))]
    return tuple(forest(name, part) for name, part in zip(names, parts, strict=True))


def _line(one: Found) -> Line | None:
    """A claim as a line of the plot; ``None`` where nothing was compared."""
    found, allowed = one.row.verdict.difference, one.row.verdict.allowed
    if not one.judged or found is None:
        return None
    worst = min(found.low, allowed[1] if allowed else 0.0, 0.0)
    least, most = (worst, allowed[1]) if allowed else (0.0, max(found.high, 0.0))
    if allowed and allowed[0] > float("-inf"):
        least = allowed[0]
    row, column = _place(one)
    said = (one.claim.asks, table.ours(one.row), str(one.row.verdict))
    ends = (round(v, 3) for v in (found.value, found.low, found.high, least, most))
    return Line(f"{row}{BETWEEN}{column}", one.anchor, *said, one.kind, *ends)


def _unique(lines: Sequence[Line]) -> list[Line]:
    """Lines of one label would fall on each other: the later ones are numbered."""
    seen: dict[str, int] = defaultdict(int)
    found = []
    for line in lines:
        seen[line.label] += 1
        again = seen[line.label]
        found.append(replace(line, label=f"{line.label} ({again})") if again > 1 else line)
    return found
