"""Finished cells against the accepted ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quantbench.gate.accepted import Accepted, mark
from quantbench.gate.baseline import Baseline
from quantbench.gate.finding import Finding, Status
from quantbench.gate.losses import (
    ALONE,
    ANEW,
    SPREAD,
    TOGETHER,
    Loss,
    Pair,
    Pooled,
    corrected,
    loss,
    pooled,
)
from quantbench.runs.ledger import Stored

ACCEPT = 'mend it, or accept it: quantbench accept --why "..."'


def compare(baseline: Baseline, records: Iterable[Stored]) -> list[Finding]:
    """Every finished cell, by id; the last is of all of them together, where statistics decide."""
    found, tested = {}, {}
    for run in records:
        known = baseline.cells.get(run.id)
        if known is None:
            found[run.id] = Finding("cell", run.id, Status.NEW, "nothing is accepted: " + ACCEPT)
        elif not_comparable := _not_comparable(known, run):
            found[run.id] = Finding("cell", run.id, *not_comparable)
        elif (kind := kind_of(run)) not in known.marks:
            tested[run.id] = known, run
        elif known.marks[kind] == mark_of(run):
            found[run.id] = Finding("cell", run.id, Status.IDENTICAL)
        else:
            found[run.id] = Finding("cell", run.id, Status.MOVED, _moved(known, run))
    together = _together(tested)
    found |= _tested(tested)
    return [*(found[i] for i in sorted(found)), *together]


def on_other_kinds(baseline: Baseline, records: Iterable[Stored]) -> set[str]:
    """Cells that were run on a kind of machine of which nothing of theirs is accepted."""
    known = baseline.cells
    return {r.id for r in records if r.id in known and kind_of(r) not in known[r.id].marks}


def kind_of(run: Stored) -> str:
    """Kind of machine of a run; runs of earlier versions did not say, and are of no known kind."""
    return run.made.get("kind", "")


def mark_of(run: Stored) -> str:
    """What a run is bit for bit."""
    return mark(run.result.digest, run.result.quantized)


def examples_of(run: Stored) -> tuple[str, int, str]:
    """What the scores of a run are of, as :attr:`Accepted.examples` says it of accepted ones."""
    return run.fields["eval_digest"], run.result.n, run.result.metric


def pair(known: Accepted, run: Stored, against: str = "") -> Pair:
    """Scores of a cell: accepted, or the packed ones given, and now."""
    before = known.unpacked(against or known.scores)
    gold = run.result.gold_scores if run.result.gold else None
    spread = SPREAD if (known.discordant or 0.0) > ANEW else 0.0
    return Pair(before, run.result.scores, known.metric, known.eval, gold, spread)


def other_settings(known: Accepted, settings: Mapping[str, Any]) -> list[str]:
    """Fields that the accepted run had with another value, as ``name: old -> new``.

    All that claims set is in the id, so what differs is a default. A field that the accepted run
    did not have, or that there is no more, is none.
    """
    return sorted(_differences(known.settings, settings, ""))


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        common = [k for k in old if k in new]
        return [d for k in common for d in _differences(old[k], new[k], f"{path}.{k}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        both = zip(old, new, strict=True)
        within = [_differences(a, b, f"{path}.{i}") for i, (a, b) in enumerate(both)]
        return [d for found in within for d in found]
    return [] if old == new else [f"{path}: {old} -> {new}"]


def settings_of(run: Stored) -> dict[str, Any]:
    """Settings as they are in the key of a finished run, without versions."""
    return {k: _without_version(run.fields[k]) for k in ("method", "scheme")}


def _without_version(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        return {k: _without_version(v) for k, v in plain.items() if k != "version"}
    return [_without_version(v) for v in plain] if isinstance(plain, list) else plain


def _not_comparable(known: Accepted, run: Stored) -> tuple[Status, str] | None:
    if changed := other_settings(known, settings_of(run)):
        return Status.DEFAULT, f"{'; '.join(changed)}: {ACCEPT}"
    if known.examples != examples_of(run):
        return Status.OTHER_DATA, f"accepted with {known.value:.2f} on other examples: {ACCEPT}"
    return None


def _moved(known: Accepted, run: Stored) -> str:
    """On the accepted kind of machine every other bit is a change of the code."""
    change = loss(pair(known, run))
    return f"{_numbers(known.value, run, change)}: {ACCEPT}"


def _numbers(before: float, run: Stored, change: Loss) -> str:
    counts = f"{change.lost} of {change.n} examples worse, {change.won} better"
    return f"{before:.2f} -> {run.result.q_top1:.2f} ({counts})"


def _tested(tested: Mapping[str, tuple[Accepted, Stored]]) -> dict[str, Finding]:
    """Cells of another kind of machine: against the accepted scores, and against the best."""
    losses = {i: loss(pair(known, run)) for i, (known, run) in tested.items()}
    best = {
        i: loss(pair(known, run, known.best)) for i, (known, run) in tested.items() if known.best
    }
    # one family: a cell may fail by either comparison
    p = corrected({i: c.p for i, c in losses.items()} | {f"{i} best": c.p for i, c in best.items()})
    gains = corrected({i: c.p_gain for i, c in losses.items()})
    found = {}
    for i, change in losses.items():
        known, run = tested[i]
        detail = f"{_numbers(known.value, run, change)}, p = {p[i]:.2g}"
        status = Status.UNCHANGED
        if p[i] < ALONE:
            status, detail = Status.LOSS, f"{detail}: {ACCEPT}"
        elif p.get(f"{i} best", 1.0) < ALONE:
            status = Status.LOSS
            top = f"{best[i].value:.2f} below the best accepted, p = {p[f'{i} best']:.2g}"
            detail = f"{detail}; {top}: {ACCEPT}"
        elif gains[i] < ALONE:
            status = Status.GAIN
        finds = f"finds losses from {change.finds(len(p)):.2f} points"
        found[i] = Finding("cell", i, status, f"{detail}; {finds}")
    return found


def _together(tested: Mapping[str, tuple[Accepted, Stored]]) -> list[Finding]:
    """The mean over all cells that statistics decide on; two at least."""
    if len(tested) < 2:
        return []
    mean: Pooled = pooled([pair(known, run) for known, run in tested.values()])
    status = Status.LOSS if mean.p < TOGETHER else Status.UNCHANGED
    detail = f"{0 - mean.value:+.3f} points on average, p = {mean.p:.2g}"
    finds = f"finds losses of all from {mean.finds:.2f} points"
    name = f"all {mean.cells} cells of another kind of machine"
    return [Finding("all cells", name, status, f"{detail}; {finds}")]
