"""Finished steps of a long method, kept on disk."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import torch
from torch import Tensor

from quantbench.optimization.unfinished import Unfinished
from quantbench.quantization.method import Job, Method
from quantbench.system import parallel
from quantbench.system.atomic import write_atomically
from quantbench.system.tensors import tensor_digest

PART = ".part"  # of a step that is under way

LOGGED = "log/"  # where a finished step keeps what was logged

CLOCKS = {"reconstruct": time.perf_counter, "reconstruct_cpu": time.process_time}


class Resume:
    """Finished steps of a long method, kept in a folder so that an interrupted run goes on where it was.

    What the method logged since the step before is kept with it, and its time, so that a resumed
    run reports all: by the wall's clock, and by the processor's, which counts all threads and
    stands while other processes run. Steps are found again by the same method with the same
    settings, scheme, network, calibration set and seed only. In a process group the first process
    writes, and what it finds counts for all: the folder is shared.
    """

    def __init__(self, job: Job, method: Method) -> None:
        self.folder = folder(job, method)
        self.rng, self.log, self.device = job.rng, job.log, job.net.device
        self._known, self._since = self._logged(), _now()

    def load(self, step: str) -> dict[str, Tensor] | None:
        """Tensors of a finished step, with the generator put where that step left it; ``None`` when not done."""
        path = self._path(step)
        if path is None or not parallel.first_says(path.exists()):
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(path)
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)  # half-written by a crash: do the step again
            return None
        self.rng.set_state(found.pop("rng"))
        for key in [k for k in found if k.startswith(LOGGED)]:
            what, name = key.removeprefix(LOGGED).split("/", 1)
            values = found.pop(key).tolist()
            if what == "curves":
                self.log.curves[name] = values
            else:
                self.log.numbers[name] = values[0]
        self._count({c: float(found.pop(f"seconds/{c}")) for c in CLOCKS})
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def save(self, step: str, tensors: dict[str, Tensor]) -> None:
        """Keep a finished step, atomically."""
        logged, seconds = self._logged(), {c: t - self._since[c] for c, t in _now().items()}
        new = {
            k: torch.tensor(v, dtype=torch.float64)
            for k, v in logged.items()
            if self._known.get(k) != v
        }
        self._count(seconds)
        path = self._path(step)
        if path is None or not parallel.first():
            return
        from safetensors.torch import save

        new |= {f"seconds/{c}": torch.tensor(t, dtype=torch.float64) for c, t in seconds.items()}
        kept = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
        write_atomically(path, save(kept | {"rng": self.rng.get_state()} | new))
        path.with_suffix(PART).unlink(missing_ok=True)

    def unfinished(self, step: str) -> Unfinished:
        """Where the state of a step is kept while it is under way."""
        path = self._path(step)
        return Unfinished(None if path is None else path.with_suffix(PART), self._since, _now)

    def _logged(self) -> dict[str, list[float]]:
        """Everything in the log by a key for files."""
        curves = {f"{LOGGED}curves/{k}": list(v) for k, v in self.log.curves.items()}
        return curves | {f"{LOGGED}numbers/{k}": [v] for k, v in self.log.numbers.items()}

    def _count(self, seconds: dict[str, float]) -> None:
        """Add a step's time, and start to measure the next one's."""
        for clock, took in seconds.items():
            self.log.seconds[clock] = self.log.seconds.get(clock, 0.0) + took
        self._known, self._since = self._logged(), _now()

    def _path(self, step: str) -> Path | None:
        """File of one step."""
        return (
            None if self.folder is None else self.folder / f"{step.replace('/', '_')}.safetensors"
        )


def _now() -> dict[str, float]:
    """What each clock shows."""
    return {name: clock() for name, clock in CLOCKS.items()}


def folder(job: Job, method: Method) -> Path | None:
    """Where a method keeps its steps: named by all that their results depend on, the code aside."""
    if job.scratch is None:
        return None
    h = hashlib.sha256(f"{method!r} {job.scheme!r} {job.net.digest}".encode())
    h.update(
        tensor_digest(
            {"rng": job.rng.get_state(), **{str(i): t for i, t in enumerate(job.calib)}}
        ).encode()
    )
    return job.scratch / f"{method.name}-{h.hexdigest()[:16]}"
