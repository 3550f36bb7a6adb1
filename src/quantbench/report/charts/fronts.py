"""Accuracy against what a network costs: all methods on one pair of axes, with the Pareto front."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quantbench.report.charts.spec import (
    QUIET,
    Chart,
    Spec,
    chart_spec,
    faded,
    number,
    picked,
    rounded,
    series,
    shapes,
    tooltip,
    word,
    zoom,
)

COSTS = {
    "bits": "bits of a weight, mean",
    "bytes": "bytes of the weights",
    "operations": "bit operations of an example",
    "latency": "milliseconds an example on integers",
    "seconds": "seconds of quantization",
    "memory": "MiB while quantizing, at most",
}


@dataclass(frozen=True)
class Point:
    """One pipeline on one grid.

    Attributes:
        network: with its data.
        cost: key of :data:`COSTS`.
        method: names, without options.
        options: the method in full.
        scheme: short name.
        x: what it costs.
        value: metric in points, mean over seeds.
        lost: full precision's less that.
        least: lower end of the 95 % interval of ``lost``, over the same examples.
        most: upper end.
        front: whether no other costs less and has more.

    """

    network: str
    cost: str
    method: str
    options: str
    scheme: str
    x: float
    value: float
    lost: float
    least: float
    most: float
    front: bool = False


def with_fronts(points: Sequence[Point]) -> list[Point]:
    """The points of one network and cost, by cost, those on the Pareto front marked."""
    best, found = float("-inf"), []
    for point in sorted(points, key=lambda p: (p.x, -p.value)):
        on = point.value > best
        best = max(best, point.value)
        found.append(Point(**{**asdict(point), "front": on}))
    return found


def fronts(
    costs: Sequence[str], points: Sequence[Point], machines: Mapping[str, str] | None = None
) -> list[Chart]:
    """One chart for each cost; its network is chosen by the page.

    Args:
        costs: which of :data:`COSTS`.
        points: of all networks, with fronts marked.
        machines: by cost, where all points were measured on one machine that is known.

    """
    names = sorted({p.method for p in points})
    charts = []
    for cost in costs:
        some = [p for p in points if p.cost == cost]
        if some:
            charts.append(_front(cost, some, names, (machines or {}).get(cost, "")))
    return charts


def _front(cost: str, points: Sequence[Point], names: Sequence[str], machine: str) -> Chart:
    colour = _colour(names, points)
    networks = tuple(dict.fromkeys(p.network for p in points))
    title = f"Accuracy against {COSTS[cost]}"
    x = number("x", COSTS[cost], **_axis(cost))
    y = number("lost", _LOST, scale=_SYMLOG)
    none = {
        "mark": {"type": "rule", "color": QUIET, "strokeDash": [4, 3], "strokeWidth": 1},
        "encoding": {"y": {"datum": 0, "type": "quantitative"}},
    }
    line = {
        "transform": [{"filter": "datum.front"}],
        "mark": {"type": "line", "interpolate": "step-after", "color": QUIET, "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y},
    }
    rule = {
        "mark": {"type": "rule", "strokeWidth": 1.2},
        "encoding": {
            "x": {**x, "field": "at"},
            "y": number("most", _LOST),
            "y2": {"field": "least"},
            "color": colour,
            "opacity": faded(shown=0.5),
        },
    }
    spec = chart_spec(
        title,
        [_plain(p, names) for p in points],
        height=380,
        params=[{"name": "network", "value": networks[0]}],
        transform=[{"filter": "datum.network === network"}],
        layer=[none, line, rule, _dots(x, y, names, colour)],
    )
    caption = f"{_CAPTION} All of them ran on {machine}." if machine else _CAPTION
    return Chart(title, caption, spec, "network", networks)


def _dots(x: Spec, y: Spec, names: Sequence[str], colour: Spec) -> Spec:
    shown = tooltip(options="method", scheme="scheme", said="accuracy", x="cost", front="on_front")
    return {
        "mark": {"type": "point", "filled": True, "size": 80},
        "params": [zoom(), picked("method")],
        "encoding": {
            "x": {**x, "field": "at"},
            "y": y,
            "color": colour,
            "shape": word("method", None, scale=shapes(names)),
            "opacity": faded(),
            "tooltip": shown,
        },
    }


def _colour(names: Sequence[str], points: Sequence[Point]) -> Spec:
    """A colour for each method, with a legend of those that the chosen network has."""
    has: dict[str, set[str]] = {}
    for point in points:
        has.setdefault(point.network, set()).add(point.method)
    shown = json.dumps({network: sorted(methods) for network, methods in has.items()})
    legend = {"orient": "bottom", "columns": 3, "symbolLimit": 40, "title": None}
    legend["labelExpr"] = _ENDS
    legend |= {"values": {"expr": f"({shown})[network]"}}
    return word("method", None, scale=series(names), legend=legend)


def _axis(cost: str) -> Spec:
    """Bits are whole numbers from 2 to 8; all else spans powers of ten."""
    if cost == "bits":
        return {"scale": {"domain": [1.5, 8.5]}, "axis": {"values": list(range(2, 9))}}
    return {"scale": {"type": "log", "nice": False, "padding": 14}}


# pipelines begin alike: of a long name the end is shown
_ENDS = "length(datum.label) > 26 ? '…' + slice(datum.label, -24) : datum.label"

_LOST = "points of accuracy lost"

_SYMLOG = {"type": "symlog", "constant": 0.5, "reverse": True, "nice": False, "padding": 10}

_CAPTION = (
    "One network at a time, points lost against its full precision; finer near 0. The line is the "
    "Pareto front: no other run costs less and is right more often. Bars: 95 % intervals of what "
    "is lost, over the same examples. Click on methods in the legend to leave them alone; drag to "
    "move, hold shift and turn the wheel to zoom, double-click to go back."
)


def _plain(point: Point, names: Sequence[str]) -> dict[str, Any]:
    """What the chart shows; methods of as many bits stand side by side."""
    said = f"{point.value:.2f}, {point.lost:.2f} [{point.least:.2f}, {point.most:.2f}] lost"
    aside = 0.0
    if point.cost == "bits" and len(names) > 1:
        aside = 0.5 * (names.index(point.method) / (len(names) - 1) - 0.5)
    kept = {k: v for k, v in asdict(point).items() if k != "cost"}
    return {**kept, "at": rounded(point.x + aside, 5), "said": said}
