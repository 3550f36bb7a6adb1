"""Ten thousand cells: what scheduling, ledger, list, gate and report cost on a ledger of that size.

    python -m tests.sweeps.scale [--cells 10000] [--runs FOLDER]

The results are made up; planning, keys, ledger, verdicts and pages are real. Times are processor
times, so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from quantbench.claims.catalog import read_claims
from quantbench.errors import QuantbenchError
from quantbench.evidence.result import Result
from quantbench.runs.cell import Cell
from quantbench.runs.lab import Lab

EXAMPLES = 10_240

CELLS = 10_000

MILLISECONDS, MIB, SECONDS = 5.0, 4.0, 10.0  # at most: a cell, the second half, a command

FIRST = "report, the first"  # it draws what is accepted, and makes MLflow's store: once

METHODS = ("nearest", "adaround")  # of 2 cells on 2 networks; seeds make up the rest

WORDS = ["--cells", "w4", "w3", "--networks", "shapes/resnet8", "shapes/mobilenet"]


@dataclass(frozen=True)
class Scale:
    """What was measured.

    Attributes:
        cells: of the sweep.
        milliseconds: of processor time a cell.
        growth: of memory over the second half of the sweep, in MiB.
        seconds: of processor time, by command.

    """

    cells: int
    milliseconds: float
    growth: float
    seconds: Mapping[str, float]


def made_up(cell: Cell) -> Result:
    """Scores that follow from the cell's id, in the metric of its task."""
    rng = np.random.default_rng(list(cell.id.encode()))
    metric = cell.task.metric if cell.task else "top1"
    extra = {"cost": float(rng.random()), "peak_megabytes": 300.0}
    about: dict[str, Any] = {"metric": metric, "seconds": {"quantize": 40.0}, "extra": extra}
    if metric == "miou":
        counts = rng.integers(1, 400, (48, 21))
        scores = np.concatenate([counts, counts + 100, counts + 50], axis=1).astype(np.float32)
        return Result.of(scores, scores, "digest", **about)
    if metric in ("top1", "f1", "map"):
        full = np.arange(EXAMPLES) < 0.95 * EXAMPLES
        return Result.of(full, full & (rng.random(EXAMPLES) > 0.02), "d", size_bytes=1, **about)
    gold = np.random.default_rng(0).random(1379).astype(np.float32)  # the same for all cells
    near = (gold + rng.normal(0, 0.1, len(gold))).astype(np.float32)
    return Result.of(gold, near, "digest", gold=gold if metric == "spearman" else None, **about)


def finish_claims(lab: Lab) -> int:
    """Every cell of every claim whose data are here; how many there were."""
    count = 0
    for claim in read_claims():
        try:
            own, against = ({}, {}) if claim.skip else lab.cells(claim)
        except QuantbenchError:
            continue
        for cell in (*own.values(), *against.values()):
            if not lab.ledger.path(cell.key()).exists():
                lab.ledger.put(cell, made_up(cell))
                count += 1
    return count


def resident() -> float:
    """Memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def sweep(runs: Path, cells: int) -> tuple[float, float, float]:
    """Run a sweep of made-up cells in this process.

    Returns:
        milliseconds a cell, and the MiB that memory grew by over its first and second half.

    """
    from quantbench.cli.main import main

    held: list[float] = []
    faked = 0.0

    def result(self: Lab, cell: Cell) -> Result:
        nonlocal faked
        start = time.process_time()
        found = made_up(cell)
        faked += time.process_time() - start
        self.ledger.put(cell, found)
        held.append(resident())
        return found

    seeds = max(1, cells // (2 * 2 * len(METHODS)))
    words = ["sweep", *WORDS, "--methods", *METHODS, "--seeds", str(seeds), "--runs", str(runs)]
    with patch.object(Lab, "result", result), redirect_stdout(io.StringIO()):
        start = time.process_time()
        status = main(words)
        spent = time.process_time() - start - faked
    if status or not held:
        raise SystemExit(f"the sweep ended with {status} after {len(held)} cells")
    half = len(held) // 2
    grown = held[half] - held[0], held[-1] - held[half]
    return 1000 * spent / len(held), *grown


def timed(*words: str) -> tuple[float, float, int]:
    """Processor seconds and seconds of a command in a process of its own, and its exit code."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "quantbench", *words]
    # modules are compiled once, as for everybody
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.monotonic() - start, ran.returncode


def commands(runs: Path) -> dict[str, float]:
    """Processor seconds of each command on a ledger.

    Raises:
        AssertionError: one ended with another code than it must.

    """
    baseline, at = str(runs / "baseline.json"), ["--runs", str(runs)]
    accept = ["accept", "--baseline", baseline, "--why", "made up", "--hours", "999", *at]
    asked = {  # with the exit codes: made-up results miss claims
        "list": (["list"], 0),
        "list of all claims": (["list", "-k", "not nothing"], 0),
        "accept": (accept, 0),
        "gate": (["gate", "--baseline", baseline, "--hours", "999", *at], 1),
        FIRST: (["report", *at], 1),
        "report": (["report", *at], 1),
        "sweep, all finished": (["sweep", *WORDS, "--methods", *METHODS, *at], 0),
    }
    found = {}
    for name, (words, right) in asked.items():
        spent, wall, code = timed(*words)
        found[name] = spent
        print(f"    {name}: {spent:.1f} s of processor time, {wall:.1f} s, exit code {code}")
        assert code == right, f"{name} ended with {code}"
    return found


def measured(runs: Path, cells: int = CELLS) -> Scale:
    """A sweep into a folder, and the commands on what it leaves.

    Raises:
        AssertionError: one of the limits is passed.

    """
    spent, first, second = sweep(runs, cells)
    print(f"{cells} cells: {spent:.1f} ms each; memory grew by {first:.1f} and {second:.1f} MiB")
    print(f"cells of claims beside them: {finish_claims(Lab(runs))}")
    found = Scale(cells, spent, second, commands(runs))
    assert found.milliseconds < MILLISECONDS, f"{found.milliseconds:.1f} ms a cell"
    assert found.growth < MIB, f"memory grows with the sweep, by {found.growth:.1f} MiB"
    slow = {k: spent for k, spent in found.seconds.items() if k != FIRST and spent >= SECONDS}
    assert not slow, f"more than {SECONDS} s of processor time: {slow}"
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--runs", type=Path, help="a folder to keep (default: none is kept)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.runs or stack.enter_context(tempfile.TemporaryDirectory())
        measured(Path(folder), options.cells)


if __name__ == "__main__":
    main()
