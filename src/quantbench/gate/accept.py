"""Make finished runs the accepted ones: nothing is lowered, moved or dropped without a reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quantbench.errors import BadInput
from quantbench.evidence.result import Latency
from quantbench.gate import pace
from quantbench.gate.accepted import Accepted
from quantbench.gate.baseline import Baseline
from quantbench.gate.cells import (
    examples_of,
    kind_of,
    mark_of,
    other_settings,
    pair,
    settings_of,
)
from quantbench.gate.losses import ALONE, Loss, corrected, loss
from quantbench.runs.ledger import Stored


@dataclass(frozen=True)
class Reason:
    """Why something is accepted.

    Attributes:
        why: in words; empty where nothing but new things may be accepted.
        lower: whether a loss may be.
        date: such as ``2026-11-29``.

    """

    why: str
    lower: bool
    date: str


def accept_cells(baseline: Baseline, records: Iterable[Stored], reason: Reason) -> Baseline:
    """The baseline with these runs in it, all others as they are.

    Raises:
        BadInput: something changed and no reason is given, or something was lost and ``lower`` is
            not said; nothing is accepted then.

    """
    runs = {run.id: run for run in records}
    old = {i: known for i in runs if (known := baseline.cells.get(i))}
    changed = {i: words for i, known in old.items() if (words := _changes(known, runs[i]))}
    lower = _lower(old, runs)
    if lower and not (reason.lower and reason.why):
        raise BadInput(
            f"{listed(lower)}: mend it; a loss is accepted with both --lower and --why only"
        )
    if changed and not reason.why:
        raise BadInput(f'{listed(changed)}: say why it is accepted, --why "..."')
    made = {
        i: _accepted(old.get(i), run, reason, changed=i in changed, lowered=i in lower)
        for i, run in runs.items()
    }
    return replace(baseline, cells={**baseline.cells, **made})


def without_latency(baseline: Baseline) -> Baseline:
    """The baseline for several machines, whose latencies say nothing of each other's."""
    return replace(baseline, cells={i: replace(c, latency=()) for i, c in baseline.cells.items()})


def without_bits(baseline: Baseline, reason: Reason) -> Baseline:
    """The baseline after a change that moves last bits on machines that are not at hand.

    What cells are bit for bit goes, on every kind of machine. There statistics decide, as on any
    other, until a run on such a machine is accepted.

    Raises:
        BadInput: no reason is given.

    """
    if not reason.why:
        raise BadInput('bits of all kinds of machines go with a reason only, --why "..."')

    def without(cell: Accepted) -> Accepted:
        said = {"value": cell.value, "date": reason.date, "commit": "", "kind": ""}
        event = {**said, "why": reason.why}
        return replace(cell, marks={}, history=(*cell.history, event))

    cells = {i: without(cell) if cell.marks else cell for i, cell in baseline.cells.items()}
    return replace(baseline, cells=cells)


def _changes(known: Accepted, run: Stored) -> str:
    """What differs from what is accepted, in words; a kind of machine more is no change."""
    if defaults := other_settings(known, settings_of(run)):
        return "; ".join(defaults)
    if known.examples != examples_of(run):
        return "other data"
    kind = kind_of(run)
    if kind in known.marks:
        return "" if known.marks[kind] == mark_of(run) else "moved"
    return "" if _agrees(loss(pair(known, run))) else "other scores"


def _agrees(change: Loss) -> bool:
    return min(change.p, change.p_gain) >= ALONE


def _lower(old: Mapping[str, Accepted], runs: Mapping[str, Stored]) -> dict[str, str]:
    """Cells that lost against the best accepted, by the gate's own test."""
    losses = {
        i: loss(pair(known, runs[i], known.best))
        for i, known in old.items()
        if known.examples == examples_of(runs[i])
    }
    p = corrected({i: change.p for i, change in losses.items()})
    return {i: f"{losses[i].value:.2f} points lost" for i in p if p[i] < ALONE}


def _accepted(
    known: Accepted | None, run: Stored, reason: Reason, *, changed: bool, lowered: bool
) -> Accepted:
    """What the baseline keeps of a cell from now on."""
    event = {
        "value": run.result.q_top1,
        "date": reason.date,
        "commit": run.made.get("commit", ""),
        "kind": kind_of(run),
        "why": reason.why or ("another kind of machine" if known else "first accepted"),
    }
    rows = _latency(known.latency if known else (), run.result.latency)
    if known and not changed:
        if kind_of(run) in ("", *known.marks):
            return replace(known, settings=settings_of(run), latency=rows)
        return replace(
            known,
            marks={**known.marks, kind_of(run): mark_of(run)},
            history=(*known.history, event),
            discordant=max(known.discordant or 0.0, loss(pair(known, run)).discordant),
            latency=rows,
        )
    return Accepted(
        value=run.result.q_top1,
        scores=run.result.quantized,
        metric=run.result.metric,
        n=run.result.n,
        packing=run.result.packing,
        gold=run.result.gold,
        eval=run.fields["eval_digest"],
        settings=settings_of(run),
        marks={kind: mark_of(run)} if (kind := kind_of(run)) else {},
        history=(*(known.history if known else ()), event),
        best="" if lowered or known is None else _best(known, run),
        latency=rows,
    )


def _best(known: Accepted, run: Stored) -> str:
    """Packed scores of the best accepted so far, unless these are better by more than chance.

    The first of several that chance cannot tell apart stays: the highest of many draws is high by
    luck, and every later run would fall short of it.
    """
    if known.examples != examples_of(run):
        return ""
    best = known.best or known.scores
    return "" if loss(pair(known, run, best)).p_gain < ALONE else best


def _latency(
    known: Iterable[Mapping[str, Any]], rows: tuple[Latency, ...]
) -> tuple[Mapping[str, Any], ...]:
    """Rows of this run, and those of other machines."""
    made = pace.kept(rows)
    what = {(r["backend"], r["batch"], r["machine"]) for r in made}
    return (*(r for r in known if (r["backend"], r["batch"], r["machine"]) not in what), *made)


def listed(found: Mapping[str, str]) -> str:
    """Names with what is to be said of each, a line each."""
    return "\n  ".join(f"{name}: {words}" for name, words in sorted(found.items()))
