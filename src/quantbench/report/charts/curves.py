"""Reconstruction of one chosen run: the objective of every layer over the iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantbench.report.charts.spec import (
    SERIES,
    Chart,
    chart_spec,
    number,
    only,
    picked,
    rounded,
    tooltip,
    zoom,
)

Curves = Mapping[str, Sequence[float]]

POINTS = 40  # of a curve; a page carries thousands of curves

LEAST = 1e-12  # what a logarithmic axis shows of zero

_OTHERS = ("shift/", "h/")  # curves over channels and weights, which are no objectives


def objectives(curves: Curves) -> dict[str, Sequence[float]]:
    """Those of a run's curves that are objectives by layer."""
    return {k: v for k, v in curves.items() if len(v) > 1 and not k.startswith(_OTHERS)}


def curves_of(runs: Mapping[str, Curves]) -> Chart | None:
    """Objectives by run; ``None`` where no run has any.

    Args:
        runs: curves by the name of the run.

    """
    found = {run: kept for run, curves in runs.items() if (kept := objectives(curves))}
    if not found:
        return None
    values = [
        {"run": run, "layer": layer, "order": i, **_thin(values)}
        for run, curves in found.items()
        for i, (layer, values) in enumerate(curves.items())
    ]
    chosen = only("run", next(iter(found)))
    flat = {"flatten": ["share", "objective"]}
    spec = chart_spec(
        _TITLE,
        values,
        height=320,
        params=[*chosen["params"], zoom(), picked("layer", "layers")],
        transform=[*chosen["transform"], flat],
        mark={"type": "line", "strokeWidth": 1.6, "clip": True},
        encoding={
            "x": number("share", "share of the iterations", axis={"format": "%"}),
            "y": number("objective", "objective", scale={"type": "log"}),
            "color": _BY_LAYER,
            "opacity": {"condition": {"param": "layers", "value": 0.95}, "value": 0.07},
            "tooltip": tooltip(layer="layer", share="share", objective="objective"),
        },
    )
    caption = (
        "The objective of each layer or block while it was reconstructed, on a logarithmic axis."
    )
    return Chart(_TITLE, caption, spec, "run", tuple(found))


_TITLE = "Reconstruction, layer by layer"

_BY_LAYER = {
    "field": "layer",
    "type": "nominal",
    "sort": {"field": "order"},
    "scale": {"range": list(SERIES)},
    "title": "layer",
    "legend": {"orient": "bottom", "columns": 3, "symbolLimit": 30},
}


def _thin(values: Sequence[float]) -> dict[str, list[float]]:
    """At most :data:`POINTS` of a curve, the first and the last among them."""
    last = len(values) - 1
    at = sorted({round(i * last / (POINTS - 1)) for i in range(POINTS)})
    return {
        "share": [rounded(i / last) for i in at],
        "objective": [rounded(max(values[i], LEAST)) for i in at],
    }
