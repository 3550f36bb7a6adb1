"""Tables as text, no wider than a terminal."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest

WIDTH = 100  # columns that no line of a table passes

GAP = 2  # columns between two of the table


def text_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    least: Sequence[int] = (),
    whole: Collection[int] = (),
    width: int = WIDTH,
) -> list[str]:
    """Lines of a table; cells keep their own line breaks, and long ones are folded.

    Args:
        head: of every column.
        rows: texts, column by column.
        least: widths that columns may not fall below; none where any will do.
        whole: numbers of the columns that are not folded.
        width: columns that no line passes.

    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, (name, fewest) in enumerate(zip_longest(head, least)):
        made.add_column(Text(name), overflow="fold", min_width=fewest, no_wrap=i in whole)
    for row in rows:
        made.add_row(*map(Text, row))
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(made)
    return [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]
