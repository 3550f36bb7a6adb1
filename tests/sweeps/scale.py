"""Ten thousand cells: what scheduling, ledger, list, gate and report cost on a ledger of that size.

    python -m tests.sweeps.scale [--cells 10000] [--runs FOLDER]

The results are made up; planning, keys, ledger, verdicts and pages are real. Times are processor
times, so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, redirect_stdout
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

METHODS = ("nearest", "adaround")  # of 2 cells on 2 networks; seeds make up the rest

WORDS = ["--cells", "w4", "w3", "--networks", "shapes/resnet8", "shapes/mobilenet"]


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
    gold = rng.random(1379).astype(np.float32)
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


def sweep(runs: Path, cells: int) -> dict[str, float]:
    """Run a sweep of made-up cells in this process: milliseconds a cell, and growth of memory."""
    from quantbench.cli.main import main

    peaks: list[int] = []
    faked = 0.0

    def result(self: Lab, cell: Cell) -> Result:
        nonlocal faked
        start = time.process_time()
        found = made_up(cell)
        faked += time.process_time() - start
        self.ledger.put(cell, found)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return found

    seeds = max(1, cells // (2 * 2 * len(METHODS)))
    words = ["sweep", *WORDS, "--methods", *METHODS, "--seeds", str(seeds), "--runs", str(runs)]
    with patch.object(Lab, "result", result), redirect_stdout(io.StringIO()):
        start = time.process_time()
        status = main(words)
        spent = time.process_time() - start - faked
    if status or not peaks:
        raise SystemExit(f"the sweep ended with {status} after {len(peaks)} cells")
    half = len(peaks) // 2
    return {
        "cells": len(peaks),
        "milliseconds a cell": 1000 * spent / len(peaks),
        "MiB that the first half added": (peaks[half] - peaks[0]) / 1024,
        "MiB that the second half added": (peaks[-1] - peaks[half]) / 1024,
    }


def timed(*words: str) -> tuple[float, float, int]:
    """Processor seconds and seconds of a command in a process of its own, and its exit code."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "quantbench", *words]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.monotonic() - start, ran.returncode


def commands(runs: Path) -> dict[str, float]:
    """Processor seconds of each command on a ledger; the second time, as caches have it then."""
    baseline, at = str(runs / "baseline.json"), ["--runs", str(runs)]
    asked = {
        "list": ["list"],
        "list of all claims": ["list", "-k", "not nothing"],
        "accept": ["accept", "--baseline", baseline, "--why", "made up", "--hours", "999", *at],
        "gate": ["gate", "--baseline", baseline, "--hours", "999", *at],
        "report, the first": ["report", *at],
        "report": ["report", *at],
        "sweep, all finished": ["sweep", *WORDS, "--methods", *METHODS, *at],
    }
    found = {}
    for name, words in asked.items():
        spent, wall, code = timed(*words)
        found[f"{name} [exit {code}]"] = spent
        print(f"    {name}: {spent:.1f} s of processor time, {wall:.1f} s, exit code {code}")
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--runs", type=Path, help="a folder to keep (default: none is kept)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.runs or stack.enter_context(tempfile.TemporaryDirectory())
        runs = Path(folder)
        for name, value in sweep(runs, options.cells).items():
            print(f"{name}: {value:.1f}")
        print(f"cells of claims beside them: {finish_claims(Lab(runs))}")
        commands(runs)


if __name__ == "__main__":
    main()
