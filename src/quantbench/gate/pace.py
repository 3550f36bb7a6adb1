"""Has an integer backend become slower or faster than what was accepted?

What is compared is the time relative to the float32 network, each sample divided by the float32
call next to it: on a two-core machine under load, 30 repetitions of 60 samples differed from one
another by over 10 % with p < 0.05 in 31 % of all pairs when milliseconds were compared, in 5 % when
these ratios were. Rows without float32 calls, or from another machine, are reported and never gate;
the name of a machine does not tell its instruction sets, so its kind must be an accepted one, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from quantbench.evidence.result import Latency, Result
from quantbench.evidence.significance import holm, mann_whitney
from quantbench.gate.finding import Finding, Status
from quantbench.system.machine import fingerprint

LEVEL = 0.05

# in the experiment above, 9 of 10 medians of ratios were within 4 % of their common median
MIN_CHANGE = 0.10

Row = tuple[str, str, int, str]  # cell, backend, batch, machine

Found = tuple[Status, str]  # and detail


def kept(rows: Sequence[Latency]) -> list[dict[str, Any]]:
    """What the baseline keeps of latency rows."""
    return [
        {
            "backend": r.backend,
            "batch": r.batch,
            "machine": r.machine,
            "ratios": [float(f"{x:.4g}") for x in _ratios(r)],
        }
        for r in rows
    ]


def compare(
    accepted: Mapping[str, Sequence[Mapping[str, Any]]],
    runs: Mapping[str, Result],
    elsewhere: Collection[str] = (),
) -> list[Finding]:
    """Rows of the runs against accepted ones, and what their cells lack of these.

    Args:
        accepted: rows by cell, as :func:`kept` makes them.
        runs: results by cell.
        elsewhere: cells that were run on a kind of machine that is not accepted.

    """
    known = {(i, *_what(r)): r for i, rows in accepted.items() if i in runs for r in rows}
    named = {key[:3] for key in known}
    found, tested = {}, {}
    for i, row in ((i, row) for i, run in sorted(runs.items()) for row in run.latency):
        key = (i, row.backend, row.batch, row.machine)
        now = _ratios(row)
        if key not in known or i in elsewhere:
            found[key] = Status.OTHER_MACHINE if key[:3] in named else Status.NEW, ""
        elif not now or not known[key]["ratios"]:
            found[key] = Status.NO_FLOAT32, ""
        else:
            tested[key] = known[key]["ratios"], now
    timed = {(i, r.backend, r.batch, r.machine) for i, run in runs.items() for r in run.latency}
    for key in known:
        if key not in timed and key[3] == fingerprint() and key[0] not in elsewhere:
            found[key] = Status.MISSING, "accepted on this machine, and not timed now"
    found |= _tested(tested)
    return [
        Finding("latency", f"{i} {backend} batch {batch}", *found[i, backend, batch, machine])
        for i, backend, batch, machine in sorted(found)
    ]


def _tested(tested: Mapping[Row, tuple[Sequence[float], Sequence[float]]]) -> dict[Row, Found]:
    """Rows of the accepted machine: by a test of ranks, and by how far the median moved."""
    p = holm([mann_whitney(before, now) for before, now in tested.values()])
    found = {}
    for (key, (old, new)), chance in zip(tested.items(), p, strict=True):
        before, now = float(np.median(old)), float(np.median(new))
        status = Status.UNCHANGED
        if chance < LEVEL and abs(now / before - 1) >= MIN_CHANGE:
            status = Status.SLOWER if now > before else Status.FASTER
        found[key] = status, f"{before:.3f} -> {now:.3f} of float32"
    return found


def _what(row: Mapping[str, Any]) -> tuple[str, int, str]:
    """What a row of the baseline is about."""
    return row["backend"], row["batch"], row["machine"]


def _ratios(row: Latency) -> list[float]:
    """Time relative to the neighbouring float32 call."""
    return [s / r for s, r in zip(row.samples_ms, row.reference_ms, strict=False)]
