"""The figures of ``docs/reliability.md``: when and where they were measured, and their tables."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """One table.

    Attributes:
        title: of its section.
        head: of every column.
        rows: texts, column by column.

    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Reliability:
    """What the page shows.

    Attributes:
        about: the first paragraph: what made the figures, when and where.
        tables: in their order.

    """

    about: str = ""
    tables: tuple[Figures, ...] = ()


def of_markdown(text: str) -> Reliability:
    """The tables of a document, below the headings that they stand under; prose is left out."""
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    about = " ".join(head.partition("\n")[2].split()).replace("`", "")
    tables = []
    for section in sections:
        title, _, body = section.partition("\n")
        found = re.findall(r"(?:^\|.*\|$\n?)+", body, re.MULTILINE)
        tables += [_table(title.strip(), block.splitlines()) for block in found]
    return Reliability(about, tuple(tables))


def _table(title: str, lines: list[str]) -> Figures:
    """Head, a line of hyphens, rows."""
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return Figures(title, cells[0], tuple(cells[2:]))
