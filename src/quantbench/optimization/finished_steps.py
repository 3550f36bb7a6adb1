"""Finished steps of a long method, kept on disk, so that an interrupted run goes on where it was.

A step is a layer or a block; ``step_in_progress`` keeps the one that is under way.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from quantbench.optimization.step_in_progress import StepInProgress, Stopwatch
from quantbench.quantization.method import Job, Method
from quantbench.system import parallel, state_file
from quantbench.system.atomic import write_atomically
from quantbench.system.tensors import tensor_digest

IN_PROGRESS = ".part"  # ending of the file of a step that is under way


class FinishedSteps:
    """The steps of one method on one job, in a folder of their own.

    What the method logged since the step before is kept with each, and its time, so that a resumed
    run reports all. Steps are found again by the same method with the same settings, scheme,
    network, calibration set and seed only. In a process group the first process writes, and what it
    finds counts for all: the folder is shared.
    """

    def __init__(self, job: Job, method: Method) -> None:
        self.folder = folder(job, method)
        self.rng, self.log, self.device = job.rng, job.log, job.net.device
        self._known, self._stopwatch = self._logged(), Stopwatch()

    def load(self, step: str) -> dict[str, Tensor] | None:
        """Tensors of a finished step; ``None`` when it is not done.

        The generator is put where that step left it, and what it logged into the log.
        """
        path = self._path(step)
        if path is None or not parallel.first_says(path.exists()):
            return None
        try:
            state = state_file.read(path)
        except (OSError, ValueError):
            path.unlink(missing_ok=True)  # damaged: do the step again
            return None
        self.rng.set_state(state["rng"])
        for key, values in state["log"].items():
            what, name = key.split("/", 1)
            if what == "curves":
                self.log.curves[name] = values
            else:
                self.log.numbers[name] = values[0]
        self._count(state["seconds"])
        return {name: tensor.to(self.device) for name, tensor in state["tensors"].items()}

    def save(self, step: str, tensors: dict[str, Tensor]) -> None:
        """Keep a finished step, atomically."""
        logged, seconds = self._logged(), self._stopwatch.seconds()
        new = {k: v for k, v in logged.items() if self._known.get(k) != v}
        self._count(seconds)
        path = self._path(step)
        if path is None or not parallel.first():
            return
        state = {"tensors": tensors, "rng": self.rng.get_state(), "log": new, "seconds": seconds}
        write_atomically(path, state_file.to_bytes(state))
        path.with_suffix(IN_PROGRESS).unlink(missing_ok=True)

    def in_progress(self, step: str) -> StepInProgress:
        """Where the state of a step is kept while it is under way."""
        path = self._path(step)
        part = None if path is None else path.with_suffix(IN_PROGRESS)
        return StepInProgress(part, self._stopwatch)

    def _logged(self) -> dict[str, list[float]]:
        """Everything in the log by a key for files."""
        curves = {f"curves/{k}": [float(x) for x in v] for k, v in self.log.curves.items()}
        return curves | {f"numbers/{k}": [float(v)] for k, v in self.log.numbers.items()}

    def _count(self, seconds: dict[str, float]) -> None:
        """Add a step's time, and start to measure the next one's."""
        for clock, took in seconds.items():
            self.log.seconds[clock] = self.log.seconds.get(clock, 0.0) + took
        self._known = self._logged()
        self._stopwatch.restart()

    def _path(self, step: str) -> Path | None:
        """File of one step."""
        if self.folder is None:
            return None
        return self.folder / f"{step.replace('/', '_')}.safetensors"


def folder(job: Job, method: Method) -> Path | None:
    """Where a method keeps its steps: named by all that their results depend on, the code aside."""
    if job.scratch is None:
        return None
    h = hashlib.sha256(f"{method!r} {job.scheme!r} {job.net.digest}".encode())
    calib = {str(i): t for i, t in enumerate(job.calib)}
    h.update(tensor_digest({"rng": job.rng.get_state(), **calib}).encode())
    return job.scratch / f"{method.name}-{h.hexdigest()[:16]}"
