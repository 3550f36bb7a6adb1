"""Plots of the verdicts: what is asked against ours, accuracy against bits and images, and curves.

For each there is a function that picks what the rows give data for, and one that draws it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantbench.claims.claim import PERCENT
from quantbench.report.plots import rounding, shift
from quantbench.report.plots.drawing import Drawing
from quantbench.report.plots.svg import canvas, svg

if TYPE_CHECKING:
    from quantbench.report.bench import Row


CURVES = 6  # claims whose curves are drawn

LEGEND = 12  # lines that a legend names

_AGAINST = (
    "points; blue: what is asked with its tolerance, red: ours with the 95 % interval that decides"
)


def all_of(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Every plot that the rows give data for."""
    yield from _asked_against_ours(rows)
    yield from _accuracy_against_bits(rows)
    yield from _accuracy_against_images(rows)
    yield from _curves(rows)
    yield from shift.all_of(rows)
    yield from rounding.all_of(rows)


@dataclass(frozen=True)
class Against:
    """What is asked and allowed, and ours with its interval, in points.

    ``asked`` is a number, or both ends of a range; a limit allows everything from zero on.
    """

    label: str
    asked: tuple[float, ...]
    allowed: tuple[float, float]
    ours: float
    low: float
    high: float


def _asked_against_ours(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Ours with the intervals that decide, beside what is asked."""
    lines = []
    for row in rows:
        claim, verdict = row.claim, row.verdict
        asked, found, allowed = verdict.published, verdict.difference, verdict.allowed
        if asked is not None and found and allowed and claim.metric in PERCENT:
            label = f"{claim.model} {claim.id.rsplit('/', 1)[-1]}: {verdict.what}"
            to = verdict.published_to
            ends = (asked,) if to is None else (asked, to)
            band = max(asked + allowed[0], min(asked, 0.0)), asked + allowed[1]
            interval = (asked + x for x in (found.value, found.low, found.high))
            lines.append(Against(label, ends, band, *interval))
    if lines:
        yield Drawing("What is asked against ours", draw_against, (lines,))


def draw_against(lines: Sequence[Against]) -> str:
    """SVG with one line for each claim, the first on top."""
    figure, axes = canvas(height=1 + 0.28 * len(lines))
    band: dict[str, Any] = {"color": "#c7d3e8", "linewidth": 7, "solid_capstyle": "butt"}
    for y, line in enumerate(lines):
        axes.plot(line.allowed, [y, y], **band)
        axes.plot(line.asked, [y] * len(line.asked), "|", color="#1f4e9c", markersize=10)
        around = [[line.ours - line.low], [line.high - line.ours]]
        axes.errorbar([line.ours], [y], xerr=around, fmt="o", color="#b4441c")
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.invert_yaxis()
    axes.set_xlabel(_AGAINST)
    return svg(figure)


def _accuracy_against_bits(rows: Sequence[Row]) -> Iterator[Drawing]:
    """One plot per model: accuracy of each method over the weight bits."""
    points: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.claim.scheme and row.runs and row.claim.metric in PERCENT:
            weights, acts = row.claim.scheme.weights, row.claim.scheme.acts
            per = "channel" if weights.per_channel else "tensor"
            label = f"{row.claim.method}, per {per}" + (f", A{acts.bits}" if acts else "")
            mean = sum(r.q_top1 for r in row.runs.values()) / len(row.runs)
            points[row.claim.model][label][weights.bits] = mean
    for model, lines in points.items():
        if len(_all_bits(lines)) > 1:
            yield Drawing(f"{model}: accuracy against bits", draw_bits, (dict(lines),))


def draw_bits(lines: Mapping[str, Mapping[int, float]]) -> str:
    """SVG of accuracy over weight bits, by label of the line."""
    figure, axes = canvas(height=3.4)
    for label, line in sorted(lines.items()):
        axes.plot(sorted(line), [line[b] for b in sorted(line)], "o-", label=label)
    axes.set_xlabel("weight bits")
    axes.set_ylabel("accuracy, %")
    axes.set_xticks(_all_bits(lines))
    axes.legend(fontsize=7)
    return svg(figure)


def _all_bits(lines: Mapping[str, Mapping[int, float]]) -> list[int]:
    """Weight bits of any line, ascending."""
    return sorted({bits for line in lines.values() for bits in line})


def _accuracy_against_images(rows: Sequence[Row]) -> Iterator[Drawing]:
    """One plot per pipeline whose claims differ in the number of calibration images alone."""
    points: dict[tuple[object, ...], dict[int, list[float]]] = defaultdict(dict)
    for row in rows:
        claim, fields = row.claim, dict(row.claim.fields)
        if row.runs and claim.scheme and (images := fields.pop("images", 0)):
            scores = [r.q_top1 for r in row.runs.values()]
            about = (claim.model, claim.scheme, claim.method, claim.data, claim.calib)
            known = points[*about, tuple(fields.items())]
            known[images] = max(known.get(images, []), scores, key=len)
    for (model, scheme, method, *_), line in points.items():
        if len(line) > 3:
            caption = f"{model}, {scheme}, {method}: accuracy against images"
            yield Drawing(caption, draw_images, (line,))


def draw_images(line: Mapping[int, Sequence[float]]) -> str:
    """SVG of the accuracy of every seed over the number of images."""
    figure, axes = canvas(height=3)
    images = sorted(line)
    axes.semilogx(images, [sum(line[i]) / len(line[i]) for i in images], "o-", base=2)
    for i in images:
        axes.plot([i, i], [min(line[i]), max(line[i])], color="#888")
    axes.set_xticks(images, [str(i) for i in images])
    axes.set_xlabel("images that biases are corrected on; grey: range over seeds")
    axes.set_ylabel("accuracy, %")
    return svg(figure)


def _curves(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Objective of every layer, for the first run of each claim that has curves; a few of them."""
    drawn = 0
    for row in rows:
        found = next((r.curves for r in row.runs.values() if r.curves), {})
        curves = {k: values for k, values in found.items() if not k.startswith(("shift/", "h/"))}
        if curves and drawn < CURVES:
            drawn += 1
            yield Drawing(f"{row.claim.id}: reconstruction curves", draw_curves, (curves,))


def draw_curves(curves: Mapping[str, Sequence[float]]) -> str:
    """SVG of objectives over the share of the iterations, by layer."""
    figure, axes = canvas(height=3)
    for name, values in curves.items():
        x = [i / max(1, len(values) - 1) for i in range(len(values))]
        axes.semilogy(x, [max(v, 1e-12) for v in values], label=name)
    axes.set_xlabel("share of the iterations")
    axes.set_ylabel("objective")
    if len(curves) <= LEGEND:
        axes.legend(fontsize=6)
    return svg(figure)
