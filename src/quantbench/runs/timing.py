"""Latency of a finished cell's integer network, and the accuracy of that very run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.errors import BadInput, Unsupported
from quantbench.evidence.result import Latency, Result
from quantbench.runs.cell import task_of
from quantbench.system.machine import fingerprint

if TYPE_CHECKING:
    from quantbench.integer.backends.base import Array, Compiled
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab


BACKENDS = ("native", "onednn")

BATCHES = (1, 32)

PASSES = 15  # of which each layer's median is taken

ROUNDS = 40  # enough for a steady median; p99 is then the slowest call


def find(result: Result, backend: str, batch: int) -> Latency | None:
    """The row that was timed on this machine, if there is one."""
    wanted = (backend, batch, fingerprint())
    return next((row for row in result.latency if _what(row) == wanted), None)


@dataclass
class Race:
    """Integer and full-precision calls in turns, so that both meet the same machine.

    Attributes:
        compiled: integer network.
        float32: full-precision network, channels last, one thread.
        images: one batch.
        reference_ms: filled by :meth:`setup`, one call a round.

    """

    compiled: Compiled
    float32: Callable[[Array], object]
    images: Array
    reference_ms: list[float] = field(default_factory=list)

    def setup(self) -> tuple[tuple[Array], dict[str, Any]]:
        """Time float32; gives the arguments of the integer call that follows."""
        start = time.perf_counter()
        self.float32(self.images)
        self.reference_ms.append((time.perf_counter() - start) * 1e3)
        return (self.images,), {}


def race(lab: Lab, cell: Cell, backend: str, batch: int) -> Race:
    """Everything that one latency measurement needs.

    Raises:
        Unsupported: the backend is not available here, or lacks an operator.
        BadInput: the cell left no integer program.

    """
    from quantbench.integer.backends.base import backend as look_up
    from quantbench.integer.store import load
    from quantbench.latency.interleaved import float32_torch

    path = lab.program(cell)
    if not path.exists():
        raise BadInput(
            f"{cell.id} left no integer program at {path}: delete its cell and run it again"
        )
    found = look_up(backend)
    if why := found.available():
        raise Unsupported(f"backend {backend}: {why}")
    net = lab.network(cell)
    images = net.sample[0].numpy()
    repeated = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
    return Race(found.compile(load(path), threads=1), float32_torch(net.model)(1), repeated)


def scores(cell: Cell, compiled: Compiled) -> np.ndarray:
    """Per-example scores of the integer run itself."""
    import torch

    def model(x: torch.Tensor) -> torch.Tensor:
        out = compiled(np.ascontiguousarray(x.numpy()))
        return torch.from_numpy(np.ascontiguousarray(out))

    return task_of(cell).scores(model)


def layers_ms(runners: Race) -> dict[str, float]:
    """Median time of every module, in milliseconds; nothing from backends that do not tell."""
    from quantbench.integer.backends.native import NativeProgram

    if not isinstance(runners.compiled, NativeProgram):
        return {}
    passes = [runners.compiled.layers(runners.images, 1) for _ in range(PASSES)]
    medians = np.median([[seconds for _, _, seconds in rows] for rows in passes], axis=0)
    found: dict[str, float] = {}
    for (name, _, _), seconds in zip(passes[0], medians, strict=True):
        found[name] = found.get(name, 0.0) + 1e3 * float(seconds)  # a module may run more than once
    return found


def record(lab: Lab, cell: Cell, row: Latency) -> None:
    """Add a row to the cell's stored result, in place of one of the same backend and batch.

    When and where the cell was made stays as it is: a row says itself on which machine.
    """
    found = lab.ledger.find(cell)
    result, made = (found.result, found.made) if found else (lab.result(cell), None)
    kept = tuple(r for r in result.latency if _what(r) != _what(row))
    lab.ledger.put(cell, replace(result, latency=(*kept, row)), made)


def _what(row: Latency) -> tuple[str, int, str]:
    """What a row is about."""
    return row.backend, row.batch, row.machine
