"""Roofline of a network: what its layers reach, below what one core can do.

Williams, Waterman and Patterson 2009, figure 1a.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantbench.report.charts.spec import (
    QUIET,
    Chart,
    chart_spec,
    number,
    rounded,
    series,
    tooltip,
    word,
    zoom,
)

if TYPE_CHECKING:
    from quantbench.latency.table import Table

KINDS = ("conv", "winograd", "depthwise", "linear")


def roofline(table: Table, row: str) -> Chart:
    """Operations a second over operations a byte of one native row's layers, and the two roofs.

    Winograd layers are counted with the operations of the definition, so that they may lie above
    the roof.
    """
    layers = [t for t in table.layers[row] if t.macs and t.ms > 0]
    total = sum(t.ms for t in table.layers[row])
    dots = [
        {
            "layer": t.name,
            "kind": t.kind if t.kind in KINDS else "linear",
            "intensity": rounded(2 * t.macs / t.bytes),
            "reached": rounded(2e-6 * t.macs / t.ms),
            "share": rounded(t.ms / total),
            "us": rounded(1e3 * t.ms),
        }
        for t in layers
    ]
    title = f"Roofline of {table.network}, batch {table.batch}, {row}, one core"
    log = {"type": "log", "nice": False, "padding": 14}
    x = number("intensity", "operations a byte (weights, inputs, outputs once)", scale=log)
    y = number("reached", "GOP/s", scale=log)
    roof = {
        "data": {"values": _roof(table, [2 * t.macs / t.bytes for t in layers])},
        "mark": {"type": "line", "color": QUIET, "strokeWidth": 2},
        "encoding": {"x": x, "y": y},
    }
    layer = {
        "mark": {"type": "point", "filled": True, "opacity": 0.7},
        "params": [zoom()],
        "encoding": {
            "x": x,
            "y": y,
            "size": number("share", "", legend=None, scale={"range": [30, 700]}),
            "color": word("kind", None, scale=series(KINDS), legend={"orient": "top"}),
            "tooltip": tooltip(
                layer="layer",
                kind="kernel",
                us="microseconds",
                reached="GOP/s",
                share="share_of_the_pass",
            ),
        },
    }
    peak = 2e-9 * table.peak
    caption = (
        f"Roofs measured on the spot: {peak:.0f} GOP/s in registers, {1e-9 * table.copy:.1f} GB/s "
        "of copying. A dot is a layer, its area the share of the time."
    )
    return Chart(title, caption, chart_spec(title, dots, height=320, layer=[roof, layer]))


def _roof(table: Table, intensity: list[float]) -> list[dict[str, Any]]:
    """Corners of what one core can do, over the layers' range."""
    peak = 2e-9 * table.peak
    low, high = min(intensity) / 2, max(intensity) * 2
    knee = 2 * table.peak / table.copy
    corners = sorted({low, min(max(knee, low), high), high})
    return [
        {"intensity": rounded(x, 6), "reached": rounded(min(peak, 1e-9 * table.copy * x), 6)}
        for x in corners
    ]
