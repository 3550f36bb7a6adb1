"""The report of ``quantbench latency``: side-by-side tables, rooflines, and every layer's time."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.report import roofline
from quantbench.report.page import document, figure
from quantbench.report.plots.drawing import Drawings
from quantbench.system.atomic import write_atomically

if TYPE_CHECKING:
    from quantbench.latency.table import LayerTime, Table


NAME = "latency.html"

_HEAD = "<tr><th>layer<th>kernel<th>&micro;s<th>of the pass<th>GOP/s<th>of the peak"


def write(runs: Path) -> Path | None:
    """Write ``report/latency.html`` from all tables below ``runs``.

    Returns:
        its path; ``None`` when nothing was measured yet.

    Raises:
        BadInput: a file that is no table.

    """
    from quantbench.latency.table import Table

    tables = [Table.load(path) for path in sorted((runs / "latency").glob("*.json"))]
    if not tables:
        return None
    path = runs / "report" / NAME
    drawings = Drawings(path.parent / "plots" / "latency")
    sections = "".join(_section(table, drawings) for table in tables)
    body = f"<h1>Integer networks side by side</h1>{sections}"
    write_atomically(path, document("quantbench latency", body))
    drawings.prune()
    return path


def _section(table: Table, drawings: Drawings) -> str:
    """What one table says in text, then the roofline and the layers of every native row."""
    from quantbench.latency.table import lines

    title = f"<h2>{escape(table.network)}, batch {table.batch}</h2>"
    parts = [title, f"<pre>{escape(chr(10).join(lines(table)))}</pre>"]
    for row, layers in table.layers.items():
        total = sum(layer.ms for layer in layers)
        body = "".join(_layer(layer, total, table.peak) for layer in layers)
        summary = f"<summary>{row}, layer by layer</summary>"
        parts.append(figure(roofline.of(table, row), drawings.svg))
        parts.append(f"<details>{summary}<table>{_HEAD}{body}</table></details>")
    return "".join(parts)


def _layer(layer: LayerTime, total: float, peak: float) -> str:
    """One line: of a pass that takes ``total`` ms, on a core that can do ``peak`` MACs a second."""
    speed = share = ""
    if layer.macs and layer.ms:
        speed = f"{2e-6 * layer.macs / layer.ms:.0f}"
        share = f"{1e3 * layer.macs / layer.ms / peak:.0%}"
    return (
        f"<tr><td>{escape(layer.name)}<td>{layer.kind}<td>{layer.ms * 1e3:.1f}"
        f"<td>{layer.ms / total:.1%}<td>{speed}<td>{share}"
    )
