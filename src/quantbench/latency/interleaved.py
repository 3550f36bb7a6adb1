"""Latency as data: backends in one process take turns, so the machine treats them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantbench.errors import BadInput
from quantbench.integer.backends.base import Array, Backend
from quantbench.integer.ir import Program

Runner = Callable[[Array], object]

FLOAT32 = "fp32 torch"

WARM_UP = 3  # calls: buffers are planned and caches filled by then

ROUNDS = (15, 400)  # least and most calls of each runner

# seconds before a turn when several threads are used: idle worker threads spin for milliseconds
PAUSE = 0.01


@dataclass(frozen=True)
class Latency:
    """One backend at one batch size.

    Attributes:
        what: backend, or float32 in torch.
        batch: images a call.
        threads: threads it may use.
        p50: median of the calls, in milliseconds; ``p90`` and ``p99`` the upper percentiles,
            ``best`` the minimum.
        calls: how many were timed.
        speedup: median of float32 over this median; NaN where float32 was not timed.

    """

    what: str
    batch: int
    threads: int
    p50: float
    p90: float
    p99: float
    best: float
    calls: int
    speedup: float = float("nan")

    def metrics(self) -> dict[str, float]:
        """Numbers by name, as MLflow wants them: ``latency_ms/native/batch1/threads1/p50``."""
        place = f"/{self.what.replace(' ', '_')}/batch{self.batch}/threads{self.threads}"
        percentiles = {
            f"latency_ms{place}/{p}": getattr(self, p) for p in ("p50", "p90", "p99", "best")
        }
        faster = {f"speedup{place}": self.speedup} if np.isfinite(self.speedup) else {}
        return percentiles | faster


def interleaved(
    runners: Mapping[str, Runner], images: Array, *, threads: int = 1, seconds: float = 2.0
) -> dict[str, list[float]]:
    """Seconds of every call, in rounds in which each runner has one turn.

    The order of each round is drawn (always in the same way): whoever comes after a runtime that
    takes much of the caches finds its own weights gone, and that must not always be the same one.

    Args:
        runners: what to time, by name.
        images: their argument.
        threads: how many the runners use.
        seconds: time to spend, apart from the least number of rounds.

    Raises:
        BadInput: nothing to time.

    """
    if not runners:
        raise BadInput("no backend to time")
    names = list(runners)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(WARM_UP):
        for run in runners.values():
            run(images)
    rng = np.random.default_rng(0)
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < ROUNDS[0] or (rounds < ROUNDS[1] and time.perf_counter() < end):
        for name in (names[i] for i in rng.permutation(len(names))):
            if threads > 1:
                time.sleep(PAUSE)
            start = time.perf_counter()
            runners[name](images)
            times[name].append(time.perf_counter() - start)
        rounds += 1
    return times


def rows(times: Mapping[str, Sequence[float]], batch: int, threads: int) -> list[Latency]:
    """Percentiles of timed calls, and how many times faster than float32 each runner is."""
    found = []
    for name, seconds in times.items():
        p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(seconds, [50, 90, 99]))
        found.append(Latency(name, batch, threads, p50, p90, p99, min(seconds) * 1e3, len(seconds)))
    float32 = next((r.p50 for r in found if r.what == FLOAT32), float("nan"))
    return [replace(r, speedup=float32 / r.p50) for r in found]


def latencies(
    programs: Mapping[str, tuple[Backend, Program]],
    images: Array,
    *,
    float32: Callable[[int], Runner] | None = None,
    batches: Sequence[int] = (1, 32),
    threads: Sequence[int] = (1,),
    seconds: float = 2.0,
) -> list[Latency]:
    """Time programs on backends, taking turns, beside the full-precision network.

    Args:
        programs: what to time, by a name such as ``native w4a4``.
        images: float32 images (N, C, H, W); repeated where a batch is larger.
        float32: gives the full-precision runner for a number of threads.
        batches: images a call.
        threads: numbers of threads.
        seconds: time for each combination of the two.

    """
    found = []
    for count in threads:
        runners: dict[str, Runner] = {
            n: b.compile(p, threads=count) for n, (b, p) in programs.items()
        }
        if float32 is not None:
            runners = {FLOAT32: float32(count), **runners}
        for batch in batches:
            x = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
            found += rows(interleaved(runners, x, threads=count, seconds=seconds), batch, count)
    return found


def float32_torch(model: object) -> Callable[[int], Runner]:
    """The full-precision network in eager torch, channels last."""
    import torch

    from quantbench.integer.backends.onednn import torch_threads

    assert isinstance(model, torch.nn.Module)
    network = model

    def build(threads: int) -> Runner:
        def run(images: Array) -> object:
            with torch.inference_mode(), torch_threads(threads):
                x = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
                return network(x)

        return run

    return build
