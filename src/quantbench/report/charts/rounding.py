"""AdaRound's figures: what a rounding costs against its accuracy (1), h(V) before and after (3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantbench.report.charts.spec import (
    AFTER,
    BEFORE,
    QUIET,
    Chart,
    chart_spec,
    number,
    only,
    rounded,
    tooltip,
    word,
    zoom,
)

Point = tuple[float, float]

ENOUGH = 10  # roundings whose costs and accuracies say something together


def costs(claim: str, points: Sequence[Point], rival: Sequence[Point]) -> Chart:
    """Figure 1: accuracy over the second-order cost of a rounding, a dot for each seed.

    Args:
        claim: its id.
        points: cost and accuracy of our roundings.
        rival: the same of the rival's.

    """
    both = (("ours", points), ("the rival", rival))
    values = [
        {"whose": whose, "cost": rounded(x, 6), "accuracy": rounded(y, 6)}
        for whose, one in both
        for x, y in one
    ]
    scale = {"domain": ["ours", "the rival"], "range": [AFTER, BEFORE]}
    title = f"{claim}: cost against accuracy (figure 1)"
    spec = chart_spec(
        title,
        values,
        height=280,
        params=[zoom()],
        mark={"type": "point", "filled": True, "size": 50},
        encoding={
            "x": number("cost", "cost dw^T H dw", scale={"zero": False}),
            "y": number("accuracy", "accuracy, %", scale={"zero": False}),
            "color": word("whose", None, scale=scale, legend={"orient": "top"}),
            "tooltip": tooltip(whose="whose", cost="cost", accuracy="accuracy"),
        },
    )
    return Chart(title, "Each dot is one rounding of one layer, chosen by its seed.", spec)


def kept(curves: Mapping[str, Sequence[float]]) -> list[Point]:
    """h(V) before and after of every weight that was kept, over all layers."""
    layers = [k.removeprefix("h/before/") for k in curves if k.startswith("h/before/")]
    both = [(curves[f"h/before/{n}"], curves.get(f"h/after/{n}", ())) for n in layers]
    return [pair for before, after in both for pair in zip(before, after, strict=False)]


def moved(points: Sequence[Point]) -> float:
    """Share of the weights whose rounding is not the nearest."""
    return sum((a >= 0.5) != (b >= 0.5) for a, b in points) / max(1, len(points))


def some(points: Sequence[Point]) -> Sequence[Point]:
    """At most :data:`MOST` of them, evenly over all layers."""
    return points[:: max(1, -(-len(points) // MOST))]


def values_of(runs: Mapping[str, Mapping[str, Sequence[float]]]) -> Chart | None:
    """Figure 3: h(V) after over h(V) before, by run; ``None`` where no run kept it."""
    found = {run: points for run, curves in runs.items() if (points := kept(curves))}
    if not found:
        return None
    names = ["nearest", "other than nearest"]
    values = [
        {
            "run": run,
            "before": [a for a, _ in some(points)],
            "after": [b for _, b in some(points)],
            "share": f"{moved(points):.0%} other than nearest",
        }
        for run, points in found.items()
    ]
    chosen = only("run", next(iter(found)))
    flat = [
        {"flatten": ["before", "after"]},
        {
            "calculate": "(datum.before >= 0.5) === (datum.after >= 0.5) ? 'nearest'"
            " : 'other than nearest'",
            "as": "rounding",
        },
    ]
    scale = {"domain": names, "range": [QUIET, BEFORE]}
    spec = chart_spec(
        _TITLE,
        values,
        height=280,
        params=chosen["params"],
        transform=[*chosen["transform"], *flat],
        mark={"type": "point", "filled": True, "size": 22, "opacity": 0.55},
        encoding={
            "x": number("before", "h(V) before: where W/s lies between its neighbours"),
            "y": number("after", "h(V) after"),
            "color": word("rounding", None, scale=scale, legend={"orient": "top"}),
            "tooltip": tooltip(before="before", after="after", share="of_this_run"),
        },
    )
    caption = "Of some weights of every layer. What ends on the other side was not rounded nearest."
    return Chart(_TITLE, caption, spec, "run", tuple(found))


MOST = 300  # weights of a run

_TITLE = "h(V) before and after (figure 3)"
