"""Nightly gates, simulated: years of runs that nothing is wrong with, and three regressions.

Every night all cells are written into a ledger and read back, and compared with the baseline file.
Two nights in three they run on the accepted machine, where a run that nothing is wrong with is the
accepted one bit for bit, and its times are drawn anew; every third night they run on a machine of
another kind, where as many answers are drawn anew as were measured to differ between kinds of
machines; no network is truly another one, as some are: docs/statistics.md has both rates.
Once in thirty nights a harmless change of the code moves bits, and is accepted with a reason, so
that the history grows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantbench.evidence.result import Latency, Result
from quantbench.gate import cells, pace
from quantbench.gate.accept import Reason, accept_cells
from quantbench.gate.baseline import Baseline
from quantbench.gate.finding import Finding
from quantbench.gate.simulation import CELLS, RIGHT, Kind, answered
from quantbench.runs.cell import Cell
from quantbench.runs.ledger import Ledger, Stored
from quantbench.system.machine import fingerprint
from tests.helpers.records import cell

NIGHTS = 1440  # a gate takes a minute or less: 24 hours of gates

OURS, ANOTHER = "the accepted machine", "another kind of machine"

CHANGE = 30  # nights from one accepted change of the code to the next

CALLS = 40  # timed, of each cell, with as many float32 calls beside them

# points that one cell loses where bits do not decide, and how much slower its kernel becomes
LOSS, SLOWER = 1.4, 1.15


@dataclass(frozen=True)
class Nights:
    """What was found.

    Attributes:
        gates: how many there were.
        cells: compared in each.
        accepted: changes of the code that were accepted.
        alarms: gates that failed with nothing wrong.
        planted: what the gate said on the night of each regression.

    """

    gates: int
    cells: int
    accepted: int
    alarms: int
    planted: Mapping[str, str]


@dataclass
class _Suite:
    """The cells as they are in the code of the day: which images are right, and their digests."""

    kinds: tuple[Kind, ...]
    right: list[NDArray[np.bool_]]
    version: int = 0

    def changed(self, rng: np.random.Generator) -> None:
        """A harmless change: other bits, and as many images right."""
        pairs = zip(self.right, self.kinds, strict=True)
        self.right = [answered(right, kind, 0.0, rng) for right, kind in pairs]
        self.version += 1


def simulate(nights: int, folder: Path, seed: int = 0) -> Nights:
    """Gates night by night; a third of the way on, regressions are planted one after another."""
    rng = np.random.default_rng(seed)
    # one kind is accepted here, of which the gate cannot know what another one draws anew
    alike = (replace(kind, spread=0.0) for kind in CELLS)
    kinds = tuple(kind for kind in alike for _ in range(kind.count))
    suite = _Suite(kinds, [rng.random(kind.n) < RIGHT for kind in kinds])
    ledger, path = Ledger(folder / "cells"), folder / "baseline.json"
    names = [cell(seed=number, eval_digest=str(kind.n)) for number, kind in enumerate(kinds)]
    _accept(path, _run(ledger, names, suite, OURS, rng), "first", "2026-01-01")
    plan = dict(zip(_nights_of(nights), ("moved", "loss", "slower"), strict=True))
    alarms, accepted, planted = 0, 0, {}
    for night in range(1, nights + 1):
        fault = plan.get(night, "")
        on = ANOTHER if fault == "loss" or (night % 3 == 0 and not fault) else OURS
        if night % CHANGE == 1 and not fault:
            suite.changed(rng)
            _accept(path, _run(ledger, names, suite, OURS, rng), "harmless", _day(night))
            accepted += 1
        failing = [f for f in _gate(path, _run(ledger, names, suite, on, rng, fault)) if f.fails]
        if fault:
            planted[f"{fault}, night {night}"] = ", ".join(sorted({str(f.status) for f in failing}))
        else:
            alarms += bool(failing)
    return Nights(nights, len(kinds), accepted, alarms, planted)


def _nights_of(nights: int) -> tuple[int, int, int]:
    first = nights // 3
    return first, first + 1, first + 2


def _day(night: int) -> str:
    return str(dt.date(2026, 1, 1) + dt.timedelta(days=night))


def _gate(path: Path, runs: list[Stored]) -> list[Finding]:
    """As the command compares cells and times with the file."""
    baseline = Baseline.read(path)
    latency = {i: known.latency for i, known in baseline.cells.items()}
    results = {run.id: run.result for run in runs}
    elsewhere = cells.on_other_kinds(baseline, runs)
    return [*cells.compare(baseline, runs), *pace.compare(latency, results, elsewhere)]


def _accept(path: Path, runs: list[Stored], why: str, day: str) -> None:
    accept_cells(Baseline.read(path), runs, Reason(why, lower=False, date=day)).write(path)


def _run(
    ledger: Ledger,
    names: list[Cell],
    suite: _Suite,
    on: str,
    rng: np.random.Generator,
    fault: str = "",
) -> list[Stored]:
    """All cells of a night, as the ledger gives them back; the first has the fault."""
    for number, (name, kind, right) in enumerate(zip(names, suite.kinds, suite.right, strict=True)):
        wrong = fault if number == 0 else ""
        scores, digest = right, f"{suite.version}"
        if on == ANOTHER:
            points = LOSS if wrong == "loss" else rng.normal(0.0, kind.spread)
            scores, digest = answered(right, kind, points, rng), f"{suite.version} elsewhere"
        if wrong == "moved":
            scores = right.copy()
            scores[0] ^= True
        times = _times(rng, SLOWER if wrong == "slower" else 1.0)
        result = Result.of(np.ones(kind.n, bool), scores, digest, latency=(times,))
        ledger.put(name, result, {"at": "", "machine": fingerprint(), "kind": on, "commit": ""})
    return list(ledger.stored())


def _times(rng: np.random.Generator, slower: float) -> Latency:
    """As a busy machine shows them: both networks slow down together, noise of 3 %."""
    floats = rng.uniform(1, 5, CALLS) * rng.uniform(0.97, 1.03, CALLS)
    samples = floats * 0.1 * slower * rng.uniform(0.97, 1.03, CALLS)
    return Latency("native", 1, fingerprint(), tuple(samples.tolist()), tuple(floats.tolist()))
