"""Plots of the report, as SVG text; drawn without any display."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from quantbench.claims.claim import PERCENT
from quantbench.report import shift_plots
from quantbench.report.svg import canvas, svg

if TYPE_CHECKING:
    from quantbench.report.rows import Row


def all_of(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """(caption, SVG) of every plot that the rows give data for."""
    yield from _published_against_ours(rows)
    yield from _accuracy_against_bits(rows)
    yield from _accuracy_against_images(rows)
    yield from _curves(rows)
    yield from shift_plots.all_of(rows)


def _published_against_ours(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Drops with their 95 % intervals beside the published ones."""
    shown = [
        r
        for r in rows
        if r.verdict.ours and r.verdict.published is not None and r.claim.metric in PERCENT
    ]
    if not shown:
        return
    figure, axes = canvas(height=1 + 0.28 * len(shown))
    for y, row in enumerate(shown):
        ours = row.verdict.ours
        assert ours is not None
        allowed = row.verdict.tol + row.verdict.sampling
        published = row.verdict.published or 0.0
        top = row.verdict.published_to or published
        axes.plot(
            [published - allowed, top + allowed],
            [y, y],
            color="#c7d3e8",
            linewidth=7,
            solid_capstyle="butt",
        )
        axes.plot([published, top], [y, y], "|", color="#1f4e9c", markersize=10)
        axes.errorbar(
            [ours.value],
            [y],
            xerr=[[ours.value - ours.low], [ours.high - ours.value]],
            fmt="o",
            color="#b4441c",
        )
    axes.set_yticks(
        range(len(shown)),
        [f"{r.claim.model} {r.claim.id.rsplit('/', 1)[-1]}: {r.verdict.what}" for r in shown],
    )
    axes.invert_yaxis()
    axes.set_xlabel(
        "points; blue: published or limit with what is allowed, red: ours with its 95 % interval"
    )
    yield "Published against ours", svg(figure)


def _accuracy_against_bits(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
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
        if len({bits for line in lines.values() for bits in line}) < 2:
            continue
        figure, axes = canvas(height=3.4)
        for label, line in sorted(lines.items()):
            axes.plot(sorted(line), [line[b] for b in sorted(line)], "o-", label=label)
        axes.set_xlabel("weight bits")
        axes.set_ylabel("accuracy, %")
        axes.set_xticks(sorted({bits for line in lines.values() for bits in line}))
        axes.legend(fontsize=7)
        yield f"{model}: accuracy against bits", svg(figure)


def _accuracy_against_images(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """One plot per pipeline that differs between claims in the number of calibration images alone."""
    points: dict[tuple[object, ...], dict[int, list[float]]] = defaultdict(dict)
    for row in rows:
        fields = dict(row.claim.fields)
        if row.runs and row.claim.scheme and (images := fields.pop("images", 0)):
            claim = row.claim
            scores = [r.q_top1 for r in row.runs.values()]
            known = points[
                claim.model,
                claim.data,
                claim.scheme,
                claim.method,
                claim.calib,
                tuple(fields.items()),
            ]
            known[images] = max(known.get(images, []), scores, key=len)
    for (model, _, scheme, method, *_), line in points.items():
        if len(line) < 4:
            continue
        figure, axes = canvas(height=3)
        images = sorted(line)
        axes.semilogx(images, [sum(line[i]) / len(line[i]) for i in images], "o-", base=2)
        for i in images:
            axes.plot([i, i], [min(line[i]), max(line[i])], color="#888")
        axes.set_xticks(images, [str(i) for i in images])
        axes.set_xlabel("images that biases are corrected on; grey: range over seeds")
        axes.set_ylabel("accuracy, %")
        yield f"{model}, {scheme}, {method}: accuracy against images", svg(figure)


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Reconstruction objective of every layer, for the first run of each claim that has curves; a few of them."""
    drawn = 0
    for row in rows:
        found = next((r.curves for r in row.runs.values() if r.curves), {})
        curves = {name: values for name, values in found.items() if not name.startswith("shift/")}
        if not curves or drawn == 6:
            continue
        drawn += 1
        figure, axes = canvas(height=3)
        for name, values in curves.items():
            axes.semilogy(
                [i / max(1, len(values) - 1) for i in range(len(values))],
                [max(v, 1e-12) for v in values],
                label=name,
            )
        axes.set_xlabel("share of the iterations")
        axes.set_ylabel("objective")
        if len(curves) <= 12:
            axes.legend(fontsize=6)
        yield f"{row.claim.id}: reconstruction curves", svg(figure)
