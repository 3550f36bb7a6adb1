"""The report of ``quantbench latency``: side-by-side tables, rooflines, and every layer's time."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.report import roofline
from quantbench.report.page import STYLE
from quantbench.system.atomic import write_atomically

if TYPE_CHECKING:
    from quantbench.latency.table import Table


NAME = "latency.html"


def write(runs: Path) -> Path | None:
    """Write ``report/latency.html`` from all tables below ``runs``; ``None`` when nothing was measured yet.

    Raises:
        BadInput: a file that is no table.

    """
    from quantbench.latency.table import Table

    tables = [Table.load(path) for path in sorted((runs / "latency").glob("*.json"))]
    if not tables:
        return None
    path = runs / "report" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(tables))
    return path


def page(tables: list[Table]) -> str:
    """The whole page."""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>quantbench latency</title><style>{STYLE}</style><h1>Integer networks side by side</h1>"
        f"{''.join(_section(t) for t in tables)}</html>"
    )


def _section(table: Table) -> str:
    from quantbench.latency.table import lines

    parts = [
        f"<h2>{escape(table.network)}, batch {table.batch}</h2><pre>{escape(chr(10).join(lines(table)))}</pre>"
    ]
    for row, layers in table.layers.items():
        total = sum(t.ms for t in layers)
        body = "".join(
            f"<tr><td>{escape(t.name)}<td>{t.kind}<td>{t.ms * 1e3:.1f}<td>{t.ms / total:.1%}"
            f"<td>{f'{2e-6 * t.macs / t.ms:.0f}' if t.macs and t.ms else ''}"
            f"<td>{f'{1e3 * t.macs / t.ms / table.peak:.0%}' if t.macs and t.ms else ''}"
            for t in layers
        )
        head = "<tr><th>layer<th>kernel<th>&micro;s<th>of the pass<th>GOP/s<th>of the peak"
        parts.append(
            f"<figure>{roofline.draw(table, row)}<figcaption>Roofline, {row}, one core</figcaption></figure>"
        )
        parts.append(
            f"<details><summary>{row}, layer by layer</summary><table>{head}{body}</table></details>"
        )
    return "".join(parts)
