"""From entries to charts: fronts, costs, one chosen run, AdaRound's figures."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from quantbench.evidence import estimates
from quantbench.report.charts import curves, images, layers, rounding, shift
from quantbench.report.charts.fronts import COSTS, Point, fronts, with_fronts
from quantbench.report.charts.spec import Chart, rounded
from quantbench.report.page.entries import Entry, named
from quantbench.report.page.kept import kept
from quantbench.report.page.operations import layer_bits, mean_bits, operations
from quantbench.report.page.ranking import DRAWN

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.quantization.scheme import Scheme
    from quantbench.report.charts.layers import LayerBits
    from quantbench.report.page.found import Found
    from quantbench.runs.lab import Lab

RUNS = 60  # that can be chosen; each takes some 15 kilobytes

PLOTS = 6  # of figure 1

FRONTS, COST = ("bits", "bytes", "operations", "latency"), ("seconds", "memory")

TIMES = ("latency", "seconds")  # which another machine would change

# methods that give every layer bits of its own, whatever the scheme says
CHOOSE = {"allocate", "brecq-mixed", "adaquant-light", "adaquant-advanced"}

Machines = Mapping[str, Mapping[int, str]]  # by name of the entry, then by seed

Bits = dict[str, "tuple[LayerBits, ...]"]  # by name of the entry


def bits_by_name(lab: Lab, some: Sequence[Entry]) -> Bits:
    """Layers of the first run of every entry that left its quantized network."""
    found = {
        name: layer_bits(lab, next(iter(e.cells.values())))
        for name, e in named(some).items()
        if e.cells
    }
    return {name: layers for name, layers in found.items() if layers}


def machines_by_name(lab: Lab, some: Sequence[Entry]) -> Machines:
    """Where the runs of every entry were made, by seed; those of the baseline do not say."""
    found = {
        name: {seed: lab.ledger.find(cell) for seed, cell in e.cells.items()}
        for name, e in named(some).items()
    }
    return {
        name: {seed: run.made.get("machine", "") for seed, run in runs.items() if run}
        for name, runs in found.items()
    }


def tradeoffs(
    some: Sequence[Entry], bits: Bits, machines: Machines | None = None
) -> tuple[list[Chart], list[Chart]]:
    """Accuracy against what a network costs, and against what quantizing it does.

    Times are those of one machine, the one that most of them are of.
    """
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    each = {n: _times(e, (machines or {}).get(n, {})) for n, e in named(some).items()}
    known = {cost: Counter(m for t in each.values() for m in t[cost]) for cost in TIMES}
    chosen = {cost: counts.most_common(1)[0][0] for cost, counts in known.items() if counts}
    for name, entry in named(some).items():
        value, lost, low, high = (round(v, 3) for v in (entry.accuracy, *_drop(entry)))
        times = {cost: each[name][cost].get(machine, 0.0) for cost, machine in chosen.items()}
        for cost, amount in _costs(entry, bits.get(name, ()), times):
            about = (entry.place, cost, entry.method, entry.call, entry.short)
            x = rounded(amount, 5)
            groups[entry.place, cost].append(Point(*about, x, value, lost, low, high))
    several = {about: group for about, group in groups.items() if len(group) > 1}
    size = Counter(p.network for group in several.values() for p in group)  # most to see first
    ordered = sorted(several, key=lambda about: (-size[about[0]], about))
    points = [p for about in ordered for p in with_fronts(several[about])]
    return fronts(FRONTS, points, chosen), fronts(COST, points, chosen)


def _drop(entry: Entry) -> tuple[float, float, float]:
    """Points lost and the ends of their interval; kept where draws of the examples give it."""

    def make() -> list[float]:
        found = estimates.drop(entry.runs)
        return [found.value, found.low, found.high]

    if entry.first.metric not in DRAWN:
        value, low, high = make()
    else:
        scores = [(r.fp, r.quantized, r.gold) for r in entry.runs.values()]
        value, low, high = kept(estimates.__name__, f"drop {scores!r}", make)
    return value, low, high


def _costs(
    entry: Entry, layers: Sequence[LayerBits], times: Mapping[str, float]
) -> Iterator[tuple[str, float]]:
    """What is known of the costs, by keys of :data:`COSTS`; the metric is the mean over seeds."""
    first = entry.first
    found = {
        "bits": mean_bits(layers) if layers else _same_bits(entry),
        "bytes": float(first.size_bytes),
        "operations": operations(layers),
        "memory": float(first.extra.get("peak_megabytes", 0.0)),
        **times,
    }
    yield from ((cost, found[cost]) for cost in COSTS if found.get(cost, 0.0) > 0)


def _same_bits(entry: Entry) -> float:
    """Bits that all weights have by the scheme; 0 where it, or the method, gives layers others."""
    scheme = entry.scheme
    mixed = scheme.first_last_bits or scheme.overrides or scheme.which != "all"
    return 0.0 if mixed or CHOOSE & set(entry.method.split("+")) else float(scheme.weights.bits)


def _times(entry: Entry, made_on: Mapping[int, str]) -> dict[str, dict[str, float]]:
    """Costs that are times, by machine; empty for one that is not known."""
    latency: dict[str, float] = {}
    for row in entry.first.latency:  # an example at batch 1 on the fastest exact backend
        if row.batch == 1:
            ms = row.percentile(50)
            latency[row.machine] = min(ms, latency.get(row.machine, ms))
    seconds: dict[str, list[float]] = defaultdict(list)
    for seed, run in entry.runs.items():
        if "quantize" in run.seconds:
            seconds[made_on.get(seed, "")].append(run.seconds["quantize"])
    return {"latency": latency, "seconds": {m: statistics.fmean(s) for m, s in seconds.items()}}


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
    lines: dict[tuple[str, Scheme, str], dict[int, list[float]]] = defaultdict(dict)
    for entry in some:
        if number := dict(entry.fields).get("images", 0):
            about = _pipeline(entry), entry.scheme, entry.calib
            lines[about][number] = [r.q_top1 for r in entry.runs.values()]
    shown: dict[str, dict[int, list[float]]] = {}
    for (name, scheme, calib), line in lines.items():
        if len(line) > 3:
            title = name if name not in shown else f"{name}, {calib}"
            title = title if title not in shown else f"{name}, {scheme.weights.range}, {calib}"
            shown[title if title not in shown else f"{title} {len(shown)}"] = line
    return images.images_of(shown)


def _pipeline(entry: Entry) -> str:
    """An entry without its number of images."""
    rest = ", ".join(f"{k}={v}" for k, v in entry.fields if k != "images")
    return f"{entry.place}, {entry.short}, {entry.method}" + (f" ({rest})" if rest else "")
