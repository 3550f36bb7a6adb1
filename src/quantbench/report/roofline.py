"""Roofline plot of a network: what its layers reach, below what one core can do.

Williams, Waterman and Patterson 2009, figure 1a.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantbench.report.plots.drawing import Drawing
from quantbench.report.plots.svg import canvas, svg

if TYPE_CHECKING:
    from quantbench.latency.table import Table


_COLOURS = {"conv": "#1f4e9c", "winograd": "#b4441c", "depthwise": "#176b2c"}
_OTHERS = "#8a5a00"


def of(table: Table, row: str) -> Drawing:
    """The roofline of one native row."""
    return Drawing(f"Roofline, {row}, one core", draw, (table, row))


def draw(table: Table, row: str) -> str:
    """SVG of one native row: operations a second over operations a byte, and the two roofs.

    Every layer is a dot. Winograd layers are counted with the operations of the definition, so that
    they may lie above the roof.
    """
    figure, axes = canvas(height=4)
    peak, seen = 2e-9 * table.peak, set()
    layers = [t for t in table.layers[row] if t.macs and t.ms > 0]
    intensity = [2 * t.macs / t.bytes for t in layers]
    low, high = min(intensity) / 2, max(intensity) * 2
    knee = 2 * table.peak / table.copy
    corner = sorted({low, min(max(knee, low), high), high})
    axes.plot(corner, [min(peak, 1e-9 * table.copy * x) for x in corner], color="#555")
    axes.annotate(
        f"{peak:.0f} GOP/s in registers", (high, peak), ha="right", va="bottom", fontsize=8
    )
    for x, layer in zip(intensity, layers, strict=True):
        kind = layer.kind if layer.kind in _COLOURS else "linear"
        label = None if kind in seen else kind
        seen.add(kind)
        share = layer.ms / sum(t.ms for t in table.layers[row])
        look: dict[str, Any] = {"color": _COLOURS.get(kind, _OTHERS), "alpha": 0.6}
        size, reached = 3 + 30 * share**0.5, 2e-6 * layer.macs / layer.ms
        axes.plot([x], [reached], "o", label=label, markersize=size, **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte (weights, inputs and outputs once); area: share of the time")
    axes.set_ylabel("GOP/s")
    axes.legend(fontsize=7)
    return svg(figure)
