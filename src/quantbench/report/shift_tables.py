"""What every step of a bias correction leaves of accuracy and of the mean shift, in tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from quantbench.claims.words import call
from quantbench.report.charts.shift import per_layer

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.evidence.result import Result
    from quantbench.report.bench import Row


_PIPELINE = ("scheme", "method", "calibration", "accuracy (drop)")

_DIAGNOSIS = ("shift", "whole error", "share", "growth", "largest shift")

HEADER = (*_PIPELINE, *_DIAGNOSIS, "found on the way", "why")

_NUMBERS = {"output_mssr": ".3g", "output_rqnsr": ".3g", "output_share": ".1%", "growth": ".3g"}

_STAGES = ("before", "after")

_LEGEND = (
    "Before and after the correction, on calibration images. Shift: root mean square over the "
    "channels of the output of E[z_q] - E[z_fp], in standard deviations of z_fp (MSSR). Whole "
    "error: the same of the root of E[(z_q - z_fp)^2] (rQNSR). Share: part of the output's squared "
    "error that is the shift. Growth: factor from the first to the last layer, along the line that "
    "fits ln MSSR best; next to nothing left in the first layers makes it large. Largest shift: "
    "MSSR of the layer where it is largest. MLflow has the numbers of all layers and channels."
)


@dataclass(frozen=True)
class Line:
    """One pipeline on one grid: a claim's own runs or its rival's."""

    scheme: str
    method: str
    calib: str
    steps: tuple[str, ...]
    runs: Mapping[int, Result]

    @property
    def about(self) -> tuple[str, str, str]:
        """What tells lines apart; claims share lines."""
        return self.scheme, self.method, self.calib


def section(rows: Sequence[Row]) -> str:
    """HTML of one table per network on which some pipeline was diagnosed; empty where none was."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.runs and row.claim.scheme:
            groups[row.claim.paper, row.claim.model, row.claim.data].append(row)
    tables = [
        f"<h3>{escape(model)} on {escape(data)}</h3>{_table(group)}"
        for (_, model, data), group in groups.items()
        if any(_is_diagnosed(row) for row in group)
    ]
    if not tables:
        return ""
    title = "<h2>Mean activation shift, step by step</h2>"
    return f"{title}<p>{escape(_LEGEND)}</p>{''.join(tables)}"


def _is_diagnosed(row: Row) -> bool:
    """Whether a run measured the shift before and after."""
    return any(f"shift/{stage}/growth" in r.extra for r in row.runs.values() for stage in _STAGES)


def _table(rows: Sequence[Row]) -> str:
    """One line per pipeline, grid and calibration set, in the claims' order; most seeds win."""
    found: dict[tuple[str, ...], Line] = {}
    notes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in rows:
        for line in _lines(row):
            if line.about not in found or len(line.runs) > len(found[line.about].runs):
                found[line.about] = line
        note, about = row.claim.note, next(_lines(row)).about
        if note and note not in notes[about]:
            notes[about].append(note)
    head = "".join(f"<th>{escape(h)}</th>" for h in HEADER)
    body = (_tr((*_cells(line), " ".join(notes[about]))) for about, line in found.items())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _lines(row: Row) -> Iterator[Line]:
    """A claim's own runs, then its rival's."""
    claim, rival = row.claim, row.claim.rival
    scheme, calib = claim.id.split("/")[-2], _calib(claim)
    steps = tuple(claim.method.split("+"))
    yield Line(scheme, call(claim.method, claim.fields), calib, steps, row.runs)
    if rival and row.against:
        other = scheme if rival.scheme == claim.scheme else str(rival.scheme)
        steps = tuple(rival.method.split("+"))
        yield Line(other, call(rival.method, rival.fields), calib, steps, row.against)


def _calib(claim: Claim) -> str:
    return f"{claim.calib.n} of {claim.calib.data}" if claim.calib else ""


def _tr(texts: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(t)}</td>' for t in texts)}</tr>"


def _cells(line: Line) -> tuple[str, ...]:
    """All columns but the last."""
    runs = line.runs.values()
    accuracy = statistics.fmean(r.q_top1 for r in runs)
    drop = statistics.fmean(r.drop for r in runs)
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
    left = f"{accuracy:.2f} ({drop:+.2f}{seeds})"
    shifts = (_before_after(line, key, form) for key, form in _NUMBERS.items())
    return (*line.about, left, *shifts, _largest(line), _found(line))


def _before_after(line: Line, key: str, form: str) -> str:
    """Mean over seeds of one number of the diagnosis, before and after."""
    values = (_mean(line, f"shift/{stage}/{key}") for stage in _STAGES)
    known = [format(v, form) for v in values if v is not None]
    return " → ".join(known)


def _largest(line: Line) -> str:
    """The layer with the largest shift and that shift, before and after, in the first run."""
    curves = next(iter(line.runs.values())).curves
    found = []
    for stage in _STAGES:
        if values := curves.get(f"shift/{stage}/mssr", ()):
            value, name = max(zip(values, per_layer(curves, stage), strict=True))
            found.append(f"{value:.3g} at {name}")
    return " → ".join(found)


def _found(line: Line) -> str:
    """Single numbers that the steps logged under their own names."""
    names = [k for k in next(iter(line.runs.values())).extra if k.partition("/")[0] in line.steps]
    return ", ".join(f"{name} {_mean(line, name):.3g}" for name in names)


def _mean(line: Line, name: str) -> float | None:
    """Mean of one logged number over seeds; ``None`` where a run has none."""
    values = [v for r in line.runs.values() if isinstance(v := r.extra.get(name), int | float)]
    return statistics.fmean(values) if values else None
