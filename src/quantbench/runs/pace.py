"""Has an integer backend become slower or faster than what was accepted?

What is compared is the time relative to the float32 network, each sample divided by the float32
call next to it: on a two-core machine under load, 30 repetitions of 60 samples differed from one
another by over 10 % with p < 0.05 in 31 % of all pairs when milliseconds were compared, in 5 % when
these ratios were. Rows without float32 calls, or from another machine, are reported and never gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantbench.evidence.result import Latency, Result
from quantbench.evidence.significance import holm, mann_whitney
from quantbench.system.machine import fingerprint

LEVEL = 0.05

# in the experiment above, 9 of 10 medians of ratios were within 4 % of their common median
MIN_CHANGE = 0.10


@dataclass(frozen=True)
class Pace:
    """One latency row against its baseline.

    Attributes:
        id: of the cell.
        backend: integer backend.
        batch: examples per call.
        status: ``unchanged``, ``slower``, ``faster``, ``new``, ``missing`` (accepted on this
            machine, not timed now), ``other machine`` or ``no float32 calls``.
        before: accepted median time relative to float32.
        now: the same now.
        p: Mann-Whitney's p-value, corrected for all rows tested together.

    """

    id: str
    backend: str
    batch: int
    status: str
    before: float | None = None
    now: float | None = None
    p: float = 1.0

    @property
    def fails(self) -> bool:
        """Whether somebody must look."""
        return self.status in ("slower", "faster", "missing")

    def __str__(self) -> str:
        """One line for the terminal."""
        ratios = (
            ""
            if self.before is None or self.now is None
            else f", {self.before:.3f} -> {self.now:.3f} of float32"
        )
        return f"{self.id} {self.backend} batch {self.batch}: {self.status}{ratios}"


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
    accepted: Mapping[str, Sequence[Mapping[str, Any]]], runs: Mapping[str, Result]
) -> list[Pace]:
    """Rows of the runs against accepted ones, and what their cells lack of these."""
    known = {
        (i, r["backend"], r["batch"]): r for i, rows in accepted.items() for r in rows if i in runs
    }
    timed = {(i, row.backend, row.batch) for i, run in runs.items() for row in run.latency}
    here = fingerprint()
    found = [
        Pace(*key, "missing")
        for key, r in known.items()
        if key not in timed and r["machine"] == here
    ]
    tested = {}
    for i, row in ((i, row) for i, run in sorted(runs.items()) for row in run.latency):
        key = (i, row.backend, row.batch)
        old, now = known.get(key), _ratios(row)
        if old is None:
            found.append(Pace(*key, "new"))
        elif old["machine"] != row.machine:
            found.append(Pace(*key, "other machine"))
        elif not now or not old["ratios"]:
            found.append(Pace(*key, "no float32 calls"))
        else:
            medians = float(np.median(old["ratios"])), float(np.median(now))
            tested[key] = (*medians, mann_whitney(old["ratios"], now))
    for (key, (before, now_median, _)), p in zip(
        tested.items(), holm([t[2] for t in tested.values()]), strict=True
    ):
        changed = p < LEVEL and abs(now_median / before - 1) >= MIN_CHANGE
        status = "unchanged" if not changed else "slower" if now_median > before else "faster"
        found.append(Pace(*key, status, before, now_median, p))
    return sorted(found, key=lambda f: (f.id, f.backend, f.batch))


def _ratios(row: Latency) -> list[float]:
    """Time relative to the neighbouring float32 call."""
    return [s / r for s, r in zip(row.samples_ms, row.reference_ms, strict=False)]
