"""The run of a cell: what a network scores in full precision, and quantized by a method."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from quantbench.system.progress import Progress, silent
from quantbench.system.seeds import seed_for

if TYPE_CHECKING:
    import numpy as np

    from quantbench.network.network import Network
    from quantbench.quantization.method import Log, Method
    from quantbench.quantization.quantized import Quantized
    from quantbench.quantization.scheme import Scheme
    from quantbench.tasks.task import Task


@dataclass(frozen=True)
class FullPrecision:
    """No quantization: the cell that every drop is measured from."""

    name: ClassVar[str] = "full-precision"
    version: ClassVar[int] = 1


@functools.lru_cache(maxsize=2)
def network(task: Task, device: str) -> Network:
    """A task's network on a device; neighbouring cells share it, and no method modifies it."""
    return task.network().to(device)


def full_precision(task: Task, device: str) -> np.ndarray:
    """Per-example scores (N,) of the network as it was published, batch norm folded."""
    return task.scores(network(task, device).model)


def quantized(
    task: Task,
    method: Method,
    scheme: Scheme,
    calib: str,
    n: int,
    seed: int,
    *,
    device: str = "cpu",
    progress: Progress = silent,
    scratch: Path | None = None,
) -> tuple[Quantized, np.ndarray, Log]:
    """Quantize a task's network and evaluate what runs: the simulation, or its exact integer form.

    Args:
        task: the network and its data.
        method: how to quantize.
        scheme: what to quantize.
        calib: name of the calibration set.
        n: number of examples drawn from it, the same for all methods.
        seed: of the run; every axis of randomness derives its own.
        device: kind of device, ``cpu`` or ``cuda``.
        progress: called with (done, total, label).
        scratch: folder in which long methods keep what they need to resume.

    Returns:
        the quantized network, its per-example scores (N,), and the log with the seconds of both.

    """
    from quantbench.integer.lowering.lower import executable
    from quantbench.quantization.method import Log, quantize

    net = network(task, device)
    drawn = task.calibration(calib, n, seed_for("calib", seed, calib))
    log, start = Log(), time.perf_counter()
    q = quantize(
        method,
        net,
        tuple(t.to(device) for t in drawn),
        scheme,
        seed=seed_for("method", seed),
        progress=progress,
        log=log,
        scratch=scratch,
    )
    log.seconds["quantize"] = time.perf_counter() - start
    start = time.perf_counter()
    scores = task.scores(executable(q))
    log.seconds["evaluate"] = time.perf_counter() - start
    return q, scores, log
