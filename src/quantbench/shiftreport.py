"""The report's account of bias correction: what every step of a pipeline leaves of accuracy and of the mean shift."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from quantbench.wording import call

if TYPE_CHECKING:
    from quantbench.pytest_plugin import Row

HEADER = ("scheme", "method", "accuracy (drop)", "shift", "whole error", "share", "growth", "found on the way", "why")
_NUMBERS = {"output_mssr": ".3g", "output_rqnsr": ".3g", "output_share": ".1%", "growth": ".3g"}
_LEGEND = (
    "Before and after the correction, on calibration images. Shift: root mean square over the channels of the output "
    "of E[z_q] - E[z_fp], in standard deviations of z_fp (MSSR). Whole error: the same of the root of "
    "E[(z_q - z_fp)^2] (rQNSR). Share: part of the output's squared error that is the shift. Growth: factor from the "
    "first to the last layer, along the line that fits ln MSSR best. MLflow has the numbers of all layers and channels."
)


def section(rows: Sequence[Row]) -> str:
    """HTML of one table per network on which some pipeline was diagnosed; empty where none was."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.runs and row.claim.scheme:
            groups[row.claim.paper, row.claim.model].append(row)
    tables = [
        f"<h3>{escape(model)}</h3>{_table(group)}"
        for (_, model), group in groups.items()
        if any(_is_diagnosed(row) for row in group)
    ]
    return f"<h2>Mean activation shift, step by step</h2><p>{escape(_LEGEND)}</p>{''.join(tables)}" if tables else ""


def _is_diagnosed(row: Row) -> bool:
    """Whether a run measured the shift before and after."""
    return any(f"shift/{stage}/growth" in r.extra for r in row.runs.values() for stage in ("before", "after"))


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in HEADER)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(_lines(rows))}</tbody></table>"


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    """One line per pipeline and scheme, in the order of the claims; claims that share their runs share a line."""
    notes: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        known = notes.setdefault(_cells(row), [])
        if row.claim.note and row.claim.note not in known:
            known.append(row.claim.note)
    for texts, why in notes.items():
        yield f"<tr>{''.join(f'<td>{escape(t)}</td>' for t in (*texts, ' '.join(why)))}</tr>"


def _cells(row: Row) -> tuple[str, ...]:
    """All columns but the last."""
    claim, runs = row.claim, row.runs.values()
    accuracy, drop = (statistics.fmean(getattr(r, what) for r in runs) for what in ("q_top1", "drop"))
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
    shifts = (_before_after(row, key, form) for key, form in _NUMBERS.items())
    scheme = claim.id.split("/")[-2]
    return (scheme, call(claim.method, claim.fields), f"{accuracy:.2f} ({drop:+.2f}{seeds})", *shifts, _found(row))


def _before_after(row: Row, key: str, form: str) -> str:
    """Mean over seeds of one number of the diagnosis, before and after."""
    values = (_mean(row, f"shift/{stage}/{key}") for stage in ("before", "after"))
    known = [format(v, form) for v in values if v is not None]
    return " → ".join(known)


def _found(row: Row) -> str:
    """Single numbers that the steps logged under their own names."""
    steps = row.claim.method.split("+")
    names = [k for k in next(iter(row.runs.values())).extra if k.partition("/")[0] in steps]
    return ", ".join(f"{name} {_mean(row, name):.3g}" for name in names)


def _mean(row: Row, name: str) -> float | None:
    """Mean of one logged number over seeds; ``None`` where a run has none."""
    values = [v for r in row.runs.values() if isinstance(v := r.extra.get(name), int | float)]
    return statistics.fmean(values) if values else None
