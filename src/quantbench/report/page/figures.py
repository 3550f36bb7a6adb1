"""From entries to charts: fronts, costs, one chosen run, AdaRound's figures."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from quantbench.evidence import estimates
from quantbench.report.charts import curves, images, layers, rounding, shift
from quantbench.report.charts.fronts import COSTS, Point, fronts, with_fronts
from quantbench.report.charts.spec import Chart
from quantbench.report.page.entries import Entry, named
from quantbench.report.page.kept import kept
from quantbench.report.page.operations import layer_bits, mean_bits, operations
from quantbench.report.page.ranking import DRAWN

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.report.charts.layers import LayerBits
    from quantbench.report.page.found import Found
    from quantbench.runs.lab import Lab

RUNS = 60  # that can be chosen; each takes some 15 kilobytes

PLOTS = 6  # of figure 1

FRONTS, COST = ("bits", "bytes", "operations", "latency"), ("seconds", "memory")

Bits = dict[str, "tuple[LayerBits, ...]"]  # by name of the entry


def bits_by_name(lab: Lab, some: Sequence[Entry]) -> Bits:
    """Layers of the first run of every entry that left its quantized network."""
    found = {
        name: layer_bits(lab, next(iter(e.cells.values())))
        for name, e in named(some).items()
        if e.cells
    }
    return {name: layers for name, layers in found.items() if layers}


def tradeoffs(some: Sequence[Entry], bits: Bits) -> tuple[list[Chart], list[Chart]]:
    """Accuracy against what a network costs, and against what quantizing it does."""
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for name, entry in named(some).items():
        full, value, low, high = (round(v, 3) for v in (entry.first.fp_top1, *_accuracy(entry)))
        for cost, x in _costs(entry, bits.get(name, ())):
            about = (entry.place, cost, entry.method, entry.call, entry.short)
            groups[entry.place, cost].append(
                Point(*about, float(f"{x:.5g}"), full, value, low, high)
            )
    several = {about: group for about, group in groups.items() if len(group) > 1}
    size = Counter(p.network for group in several.values() for p in group)  # most to see first
    ordered = sorted(several, key=lambda about: (-size[about[0]], about))
    points = [p for about in ordered for p in with_fronts(several[about])]
    return fronts(FRONTS, points), fronts(COST, points)


def _accuracy(entry: Entry) -> tuple[float, float, float]:
    """Accuracy and the ends of its interval; kept where draws of the examples give it."""

    def make() -> list[float]:
        found = estimates.accuracy(entry.runs)
        return [found.value, found.low, found.high]

    if entry.first.metric not in DRAWN:
        value, low, high = make()
    else:
        scores = [(r.quantized, r.gold) for r in entry.runs.values()]
        value, low, high = kept(estimates.__name__, repr(scores), make)
    return value, low, high


def _costs(entry: Entry, layers: Sequence[LayerBits]) -> Iterator[tuple[str, float]]:
    """What is known of the costs, by keys of :data:`COSTS`; the metric is the mean over seeds."""
    first = entry.first
    yield "bits", mean_bits(layers) if layers else float(entry.scheme.weights.bits)
    found = {
        "bytes": float(first.size_bytes),
        "operations": operations(layers),
        "latency": _milliseconds(first),
        "seconds": statistics.fmean(r.seconds.get("quantize", 0.0) for r in entry.runs.values()),
        "memory": float(first.extra.get("peak_megabytes", 0.0)),
    }
    yield from ((cost, found[cost]) for cost in COSTS if found.get(cost, 0.0) > 0)


def _milliseconds(result: Result) -> float:
    """Of an example at batch 1 on the fastest exact backend; 0 where none was timed."""
    return min((t.percentile(50) for t in result.latency if t.batch == 1), default=0.0)


def chosen_run(some: Sequence[Entry], bits: Bits) -> tuple[list[Chart], list[str]]:
    """Charts of one run at a time, and the runs to choose from."""
    held = {name: e.first.curves for name, e in named(some).items()}
    rich = sorted(held, key=lambda name: -_richness(held[name], name in bits))
    runs = [name for name in rich if _richness(held[name], name in bits)][:RUNS]
    kept = {name: held[name] for name in runs}
    made = (
        curves.curves_of(kept),
        layers.bits_of({name: bits[name] for name in runs if name in bits}),
        shift.shifts(kept),
        rounding.values_of(kept),
    )
    return [chart for chart in made if chart], runs


def _richness(kept: curves.Curves, has_bits: bool) -> int:
    """How much there is to see of a run."""
    return min(len(curves.objectives(kept)), 3) + 2 * shift.has_shift(kept) + has_bits


def figure_1(every: Iterable[Found]) -> list[Chart]:
    """Claims with many roundings of one layer, and their rival as the one to compare with."""
    found = []
    for one in every:
        points, rival = _priced(one.row.runs.values()), _priced(one.row.against.values())
        if len(points) >= rounding.ENOUGH:
            found.append(rounding.costs(one.claim.id, points, rival))
    return found[:PLOTS]


def _priced(runs: Iterable[Result]) -> list[rounding.Point]:
    """Cost and accuracy of the runs that wrote down a cost."""
    return [(float(r.extra["cost"]), r.q_top1) for r in runs if "cost" in r.extra]


def by_images(some: Sequence[Entry]) -> Chart | None:
    """Pipelines that differ in the number of calibration images alone."""
    lines: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for entry in some:
        fields = dict(entry.fields)
        if number := fields.pop("images", 0):
            rest = ", ".join(f"{k}={v}" for k, v in fields.items())
            name = f"{entry.place}, {entry.short}, {entry.method}" + (f" ({rest})" if rest else "")
            lines[name][number] = [r.q_top1 for r in entry.runs.values()]
    return images.images_of({name: line for name, line in lines.items() if len(line) > 3})
