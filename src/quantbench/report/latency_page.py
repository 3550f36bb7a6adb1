"""The report of ``quantbench latency``: side-by-side tables, rooflines, and every layer's time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.report.charts.roofline import roofline
from quantbench.report.charts.spec import Chart
from quantbench.report.page.render import render
from quantbench.system.atomic import write_atomically

if TYPE_CHECKING:
    from quantbench.latency.table import LayerTime, Table


NAME = "latency.html"


@dataclass(frozen=True)
class Part:
    """A native row: its roofline, and a line of text for each layer."""

    row: str
    chart: Chart
    layers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Timed:
    """A table, its text, and its native rows."""

    table: Table
    text: str
    parts: tuple[Part, ...]


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
    write_atomically(path, render("latency.html", tables=[_timed(t) for t in tables]))
    return path


def _timed(table: Table) -> Timed:
    """What one table says in text, then the roofline and the layers of every native row."""
    from quantbench.latency.table import lines

    return Timed(table, "\n".join(lines(table)), tuple(_part(table, row) for row in table.layers))


def _part(table: Table, row: str) -> Part:
    layers = table.layers[row]
    total = sum(layer.ms for layer in layers)
    body = tuple(_layer(layer, total, table.peak) for layer in layers)
    return Part(row, roofline(table, row), body)


def _layer(layer: LayerTime, total: float, peak: float) -> tuple[str, ...]:
    """One line: of a pass that takes ``total`` ms, on a core that can do ``peak`` MACs a second."""
    speed = share = ""
    if layer.macs and layer.ms:
        speed = f"{2e-6 * layer.macs / layer.ms:.0f}"
        share = f"{1e3 * layer.macs / layer.ms / peak:.0%}"
    times = (f"{layer.ms * 1e3:.1f}", f"{layer.ms / total:.1%}")
    return layer.name, layer.kind, *times, speed, share
