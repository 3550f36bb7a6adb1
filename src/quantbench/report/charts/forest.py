"""Forest plot: for each claim where our number lies from the one that was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quantbench.report.charts.spec import (
    BAND,
    INK,
    QUIET,
    Chart,
    chart_spec,
    number,
    tooltip,
    zoom,
)

KINDS = {
    "agrees": "var(--good)",
    "misses": "var(--bad)",
    "open": "var(--open)",
    "known": "var(--known)",
    "behind": "var(--c6)",
}

BETWEEN = " · "  # the two lines of a label

HEIGHT = 30  # pixels of two lines of text

_ZERO = {"zero": True, "type": "symlog", "constant": 1}


@dataclass(frozen=True)
class Line:
    """One claim; points are per cent of accuracy or what else the metric counts in.

    Attributes:
        label: names the line, in two parts with :data:`BETWEEN` between them.
        claim: id, to link to.
        asks: in words.
        ours: in words.
        verdict: in words.
        kind: ``agrees``, ``misses``, ``open``, ``known`` or ``behind``.
        value: ours less what was asked, or the advantage over the rival.
        low: lower end of its 95 % interval.
        high: upper end.
        least: lower end of what is allowed.
        most: upper end of what is allowed.

    """

    label: str
    claim: str
    asks: str
    ours: str
    verdict: str
    kind: str
    value: float
    low: float
    high: float
    least: float
    most: float


def forest(title: str, lines: Sequence[Line]) -> Chart:
    """One line for each claim, in the order given."""
    values = [_plain(line) for line in lines]
    axis = {"labelExpr": f"split(datum.label, '{BETWEEN}')", "labelFontSize": 11}
    y = {"field": "label", "type": "nominal", "sort": None, "title": None, "axis": axis}
    shown = tooltip(label="claim", asks="asked", ours="ours", said="difference", verdict="verdict")
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": list(KINDS), "range": list(KINDS.values())},
        "legend": None,
    }
    scale = {**_ZERO}
    band = {
        "mark": {"type": "bar", "height": 12, "color": BAND},
        "encoding": {"x": number("least", "", scale=scale), "x2": {"field": "most"}},
    }
    zero = {
        "mark": {"type": "rule", "color": QUIET, "strokeDash": [4, 3]},
        "encoding": {"x": {"datum": 0, "type": "quantitative"}, "y": None},
    }
    rule = {
        "mark": {"type": "rule", "strokeWidth": 2.5, "strokeCap": "round"},
        "encoding": {"x": number("low", ""), "x2": {"field": "high"}, "color": colour},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "stroke": INK},
        "params": [zoom(axes=("x",))],
        "encoding": {
            "x": number("value", "points from what was asked, or ahead of the rival"),
            "color": colour,
            "tooltip": shown,
            "href": {"field": "link"},
        },
    }
    spec = chart_spec(
        title, values, height=HEIGHT * len(lines), encoding={"y": y}, layer=[band, zero, rule, dot]
    )
    return Chart(title, _CAPTION, spec)


_CAPTION = (
    "Dots: ours less what was asked, with the 95 % interval that decides; grey: what is allowed. "
    "For a comparison: the advantage over the rival, which is ahead of it right of 0. The axis is "
    "linear near 0 and logarithmic further out. A dot links to its claim."
)


def _plain(line: Line) -> dict[str, Any]:
    said = f"{line.value:+.2f} [{line.low:+.2f}, {line.high:+.2f}]"
    return {**asdict(line), "said": said, "link": f"#{line.claim}"}
