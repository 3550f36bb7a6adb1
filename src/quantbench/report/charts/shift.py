"""The central diagnosis of bias correction: the mean activation shift over depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quantbench.report.charts.spec import (
    AFTER,
    BEFORE,
    Chart,
    Spec,
    chart_spec,
    number,
    only,
    rounded,
    tooltip,
    word,
)

Curves = Mapping[str, Sequence[float]]

STAGES = {"before": BEFORE, "after": AFTER}

_SUMMARIES = ("mssr", "rqnsr", "share")


def has_shift(curves: Curves) -> bool:
    """Whether a run measured the shift before and after."""
    return all(f"shift/{stage}/mssr" in curves for stage in STAGES)


def per_layer(curves: Curves, stage: str) -> dict[str, Sequence[float]]:
    """Shift of every channel by name of the layer, in execution order."""
    # they begin with the layer's number
    names = sorted(name for name in curves if name.startswith(f"shift/{stage}/"))
    return {
        name.partition(" ")[2]: curves[name]
        for name in names
        if name.rpartition("/")[2] not in _SUMMARIES
    }


def shifts(runs: Mapping[str, Curves]) -> Chart | None:
    """Shift over depth by run; ``None`` where no run was diagnosed.

    Args:
        runs: ``shift/before/...`` and ``shift/after/...`` by the name of the run, as
            :func:`quantbench.calibration.shift.record` leaves them.

    """
    found = {run: curves for run, curves in runs.items() if has_shift(curves)}
    if not found:
        return None
    values = [row for run, curves in found.items() for row in _rows(run, curves)]
    scale = {"domain": list(STAGES), "range": list(STAGES.values())}
    colour = word("stage", None, scale=scale, legend={"orient": "top"})
    x = number("depth", "layer, in order of execution", axis={"tickMinStep": 1})
    symlog = {"type": "symlog", "constant": 0.01}
    area: Spec = {
        "mark": {"type": "errorband", "opacity": 0.22},
        "encoding": {
            "x": x,
            "y": number("low", "standard deviations of the layer", scale=symlog),
            "y2": {"field": "high"},
            "color": colour,
        },
    }
    line: Spec = {
        "mark": {"type": "line", "strokeWidth": 2, "point": True},
        "encoding": {
            "x": x,
            "y": number("mssr", "standard deviations of the layer"),
            "color": colour,
            "tooltip": tooltip(
                layer="layer",
                stage="correction",
                mssr="shift_(MSSR)",
                rqnsr="whole_error_(rQNSR)",
                share="share_of_the_error",
                low="5_%_of_the_channels_below",
                high="95_%_of_the_channels_below",
            ),
        },
    }
    chosen = only("run", next(iter(found)))
    spec = chart_spec(_TITLE, values, height=300, **chosen, layer=[area, line])
    return Chart(_TITLE, _CAPTION, spec, "run", tuple(found))


_TITLE = "Mean activation shift over depth"

_CAPTION = (
    "Before and after the correction of biases, on calibration images. Lines: root mean square "
    "over a layer's channels of E[z_q] - E[z_fp], in standard deviations of z_fp (MSSR). Bands: "
    "where nine in ten channels lie. Linear near 0, logarithmic further out."
)


def _rows(run: str, curves: Curves) -> Iterator[dict[str, Any]]:
    for stage in STAGES:
        channels = list(per_layer(curves, stage).items())
        summaries = zip(*(curves[f"shift/{stage}/{name}"] for name in _SUMMARIES), strict=True)
        for depth, ((layer, values), found) in enumerate(zip(channels, summaries, strict=True)):
            ordered = sorted(values)
            ends = (ordered[round(q * (len(ordered) - 1))] for q in (0.05, 0.95))
            low, high = (rounded(v) for v in ends)
            named = dict(zip(_SUMMARIES, map(rounded, found), strict=True))
            about = {"run": run, "stage": stage, "depth": depth, "layer": layer}
            yield {**about, "low": low, "high": high, **named}
