"""AdaRound's figures: what a rounding costs against its accuracy (1), h(V) before and after (3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from quantbench.report.plots.drawing import Drawing
from quantbench.report.plots.svg import canvas, svg

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.report.bench import Row

PLOTS = 12

ENOUGH = 10  # roundings whose costs and accuracies say something together

Point = tuple[float, float]


def all_of(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Both figures, for every claim whose runs have what they show; a few of each."""
    costs, values = list(_costs(rows)), list(_values(rows))
    yield from costs[:PLOTS]
    yield from values[:PLOTS]


def _costs(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Claims with many roundings of one layer, and their rival as the one to compare with."""
    for row in rows:
        points, rival = _points(row.runs), _points(row.against)
        if len(points) >= ENOUGH:
            what = "cost against accuracy (figure 1)"
            yield Drawing(f"{row.claim.id}: {what}", draw_costs, (points, rival))


def _points(runs: Mapping[int, Result]) -> list[Point]:
    """Cost and accuracy of the runs that wrote down a cost."""
    return [(float(r.extra["cost"]), r.q_top1) for r in runs.values() if "cost" in r.extra]


def draw_costs(points: Sequence[Point], rival: Sequence[Point]) -> str:
    """SVG of accuracy over the second-order cost of a rounding, one dot each."""
    figure, axes = canvas(height=3.4)
    axes.plot(*zip(*points, strict=True), "o", color="#1f4e9c", label="ours, one dot a seed")
    if rival:
        axes.plot(*zip(*rival, strict=True), "s", color="#b4441c", label="the rival")
    axes.set_xlabel("cost dw^T H dw")
    axes.set_ylabel("accuracy, %")
    axes.legend(fontsize=7)
    return svg(figure)


def _values(rows: Sequence[Row]) -> Iterator[Drawing]:
    """The first run of each network, scheme and method that kept h(V)."""
    drawn: set[object] = set()
    for row in rows:
        curves = next((r.curves for r in row.runs.values() if _kept(r.curves)), None)
        about = row.claim.model, row.claim.scheme, row.claim.method, row.claim.fields
        if curves is not None and about not in drawn:
            drawn.add(about)
            what = "h(V) before and after (figure 3)"
            yield Drawing(f"{row.claim.id}: {what}", draw_values, (_kept(curves),))


def _kept(curves: Mapping[str, Sequence[float]]) -> list[Point]:
    """h(V) before and after of every weight that was kept, over all layers."""
    layers = [k.removeprefix("h/before/") for k in curves if k.startswith("h/before/")]
    both = [(curves[f"h/before/{n}"], curves.get(f"h/after/{n}", ())) for n in layers]
    return [pair for before, after in both for pair in zip(before, after, strict=False)]


def draw_values(points: Sequence[Point]) -> str:
    """SVG of h(V) after over h(V) before; red where the rounding is not the nearest."""
    figure, axes = canvas(height=3.4)
    moved = [(a, b) for a, b in points if (a >= 0.5) != (b >= 0.5)]
    same = [(a, b) for a, b in points if (a >= 0.5) == (b >= 0.5)]
    share = f"{len(moved) / len(points):.0%} other than nearest"
    for some, colour, label in ((same, "#1f4e9c", "nearest"), (moved, "#b4441c", share)):
        if some:
            axes.plot(*zip(*some, strict=True), ".", color=colour, alpha=0.4, label=label)
    axes.set_xlabel("h(V) before: where W/s lies between its neighbours")
    axes.set_ylabel("h(V) after")
    axes.legend(fontsize=7, loc="center left")
    return svg(figure)
