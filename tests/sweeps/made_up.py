"""Jobs whose results are made up: what schedules and keeps them is real."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.evidence.result import Result
from quantbench.runs.lab import Lab
from quantbench.runs.ledger import made_here
from quantbench.sweeps.plan import Job
from quantbench.sweeps.read import from_words


def jobs(seeds: int, methods: tuple[str, ...] = ("nearest",)) -> list[Job]:
    """Of the smallest network."""
    return list(from_words(methods, ["w4"], ["shapes/resnet8"], "", seeds).jobs())


def result(name: str) -> Result:
    """The same for the same name."""
    draw = np.frombuffer(hashlib.sha256(name.encode()).digest() * 8, np.uint8)
    return Result.of(np.ones(256, bool), draw > 40, "digest", size_bytes=1, seconds={"run": 1.0})


def work(job: Job, runs: str, device: str) -> dict[str, Any]:
    """In place of :func:`quantbench.sweeps.cluster.measured`; leaves a mark when it begins."""
    marks = Path(runs) / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    with (marks / f"{job.seed}").open("a") as mark:
        mark.write(f"{os.getpid()}\n")
    time.sleep(0.5)
    fields = job.cell(Lab(Path(runs))).key_fields()
    if (Path(runs) / "other").exists():
        fields["torch"] = "0.0"
    return {"fields": fields, "result": result(str(job)).to_json(), "made": made_here(device)}
