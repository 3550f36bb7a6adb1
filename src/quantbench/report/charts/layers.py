"""Bits of every layer of one chosen run, as bars over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantbench.report.charts.spec import (
    AFTER,
    BEFORE,
    Chart,
    chart_spec,
    number,
    only,
    tooltip,
    word,
)


@dataclass(frozen=True)
class LayerBits:
    """One layer.

    Attributes:
        layer: its module.
        weights: bits of its weights.
        acts: bits of its inputs; 32 where they stay floats.
        params: number of weights.
        macs: multiply-accumulates of an example.

    """

    layer: str
    weights: int
    acts: int
    params: int
    macs: int


def bits_of(runs: Mapping[str, Sequence[LayerBits]]) -> Chart | None:
    """Bits by run; ``None`` where no run has any."""
    if not runs:
        return None
    values = [
        {
            "run": run,
            "layer": [one.layer for one in layers],
            "weights": [one.weights for one in layers],
            "inputs": [one.acts for one in layers],
            "params": [one.params for one in layers],
            "macs": [one.macs for one in layers],
        }
        for run, layers in runs.items()
    ]
    chosen = only("run", next(iter(runs)))
    shaped = [
        {"flatten": ["layer", "weights", "inputs", "params", "macs"]},
        {"fold": ["weights", "inputs"], "as": ["what", "bits"]},
        {"filter": "datum.bits < 32"},
    ]
    shown = tooltip(
        layer="layer",
        what="what",
        bits="bits",
        params="weights_of_the_layer",
        macs="multiply-accumulates",
    )
    angle = {"labelAngle": -50, "labelLimit": 120, "labelOverlap": True}
    scale = {"domain": ["weights", "inputs"], "range": [AFTER, BEFORE]}
    spec = chart_spec(
        _TITLE,
        values,
        height=220,
        params=chosen["params"],
        transform=[*chosen["transform"], *shaped],
        mark={"type": "bar", "cornerRadiusEnd": 2},
        encoding={
            "x": word("layer", None, sort=None, axis=angle),
            "xOffset": {"field": "what", "type": "nominal", "sort": ["weights", "inputs"]},
            "y": number("bits", "bits", scale={"domain": [0, 8]}, axis={"tickCount": 5}),
            "color": word("what", None, scale=scale, legend={"orient": "top"}),
            "tooltip": shown,
        },
    )
    caption = "Bits of the weights and of the inputs of every layer, in order of execution."
    return Chart(_TITLE, caption, spec, "run", tuple(runs))


_TITLE = "Bits, layer by layer"
