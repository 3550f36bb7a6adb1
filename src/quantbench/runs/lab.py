"""The engine: from a claim to its cells, from cells to results, from results to a verdict."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from quantbench.evidence.result import Result
from quantbench.integer.lowering.lower import executable, lower
from quantbench.quantization import serialize
from quantbench.quantization.registry import make
from quantbench.runs.cell import Cell
from quantbench.runs.ledger import Ledger
from quantbench.system.seeds import seed_for
from quantbench.tasks.registry import task
from quantbench.tasks.task import Task

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.network.network import Network
    from quantbench.quantization.quantized import Quantized
    from quantbench.quantization.scheme import Scheme


Progress = Callable[[int, int, str], None]


def _silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class FullPrecision:
    """No quantization: the cell that every drop is measured from."""

    name: ClassVar[str] = "full-precision"
    version: ClassVar[int] = 1


@dataclass(frozen=True)
class Lab:
    """Runs cells and keeps their results.

    Attributes:
        runs: folder of everything that runs leave behind; may be deleted at any time.
        device: kind of device to run on, ``cpu`` or ``cuda``.
        progress: told (done, total, label) while a method works.
        fresh: keys of the cells that ran in this process, in order.

    """

    runs: Path
    device: str = "cpu"
    progress: Progress = _silent
    fresh: list[str] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        """Finished cells."""
        return Ledger(self.runs / "cells")

    def cells(self, claim: Claim) -> tuple[dict[int, Cell], dict[int, Cell]]:
        """A claim's own cells by seed, and its rival's.

        Raises:
            DataMissing: data that the claim names is not here.
            BadInput: a method, option or model that does not exist.

        """
        calib, n = (claim.calib.data, claim.calib.n) if claim.calib and claim.scheme else ("", 0)
        where = task(claim.model, claim.data)
        where.digests(calib)  # data first: what is not here is a skip, whatever else the claim says

        def cell(name: str, fields: Mapping[str, object], scheme: Scheme | None, seed: int) -> Cell:
            method = make(name, fields) if name else FullPrecision()
            return self.cell(where, method, scheme, calib, n, seed)

        own = {s: cell(claim.method, dict(claim.fields), claim.scheme, s) for s in claim.seeds}
        rival = claim.rival
        against = (
            {s: cell(rival.method, dict(rival.fields), rival.scheme, s) for s in claim.seeds}
            if rival
            else {}
        )
        return own, against

    def cell(
        self, where: Task, method: object, scheme: Scheme | None, calib: str, n: int, seed: int
    ) -> Cell:
        """One run, fully described."""
        checkpoint, calib_digest, eval_digest = where.digests(calib)
        return Cell(
            method=method,
            scheme=scheme,
            model=where.model,
            checkpoint=checkpoint,
            calib=calib,
            calib_n=n,
            calib_digest=calib_digest,
            eval_data=where.eval_data,
            eval_digest=eval_digest,
            seed=seed,
            device=self.device,
            code=("quantbench.tasks.task", "quantbench.runs.lab", *_home(where)),
        )

    def program(self, cell: Cell) -> Path:
        """Where a finished cell of integer placement keeps its integer network."""
        return self.runs / "quantized" / cell.key() / "program.safetensors"

    def network(self, cell: Cell) -> Network:
        """The cell's full-precision network."""
        return _network(cell.model, cell.eval_data, self.device)

    def result(self, cell: Cell) -> Result:
        """The cell's result: from the ledger, or by running it and storing what it found."""
        stored = self.ledger.get(cell)
        if stored is not None:
            return stored
        found = (
            self._full_precision(cell)
            if isinstance(cell.method, FullPrecision)
            else self._quantized(cell)
        )
        self.ledger.put(cell, found)
        self.fresh.append(cell.key())
        return found

    def _full_precision(self, cell: Cell) -> Result:
        """Scores of the network as it was published, batch norm folded."""
        where = task(cell.model, cell.eval_data)
        self.progress(0, 1, "full precision")
        start = time.perf_counter()
        net = _network(cell.model, cell.eval_data, self.device)
        scores = where.scores(net.model)
        seconds = {"evaluate": time.perf_counter() - start}
        return Result.of(
            scores, scores, net.digest, metric=where.metric, gold=where.gold(), seconds=seconds
        )

    def _quantized(self, cell: Cell) -> Result:
        """Quantize, evaluate the simulation, keep the quantized network."""
        from quantbench.quantization.method import Log, quantize

        where, key, scheme = task(cell.model, cell.eval_data), cell.key(), cell.scheme
        assert scheme is not None
        base = self.result(self.cell(where, FullPrecision(), None, "", 0, 0))
        net = _network(cell.model, cell.eval_data, self.device)
        seed = seed_for("calib", cell.seed, cell.calib)
        calib = tuple(t.to(self.device) for t in where.calibration(cell.calib, cell.calib_n, seed))
        log, start = Log(), time.perf_counter()
        q = quantize(
            cell.method,
            net,
            calib,
            scheme,
            seed=seed_for("method", cell.seed),
            progress=self.progress,
            log=log,
            scratch=self.runs / "scratch" / key,
        )
        log.seconds["quantize"] = time.perf_counter() - start
        start = time.perf_counter()
        scores = where.scores(executable(q))
        log.seconds["evaluate"] = time.perf_counter() - start
        serialize.save(q, self.runs / "quantized" / key)
        if scheme.placement == "integer":
            _save_program(q, self.program(cell))
        return Result.of(
            base.fp_scores,
            scores,
            q.digest,
            metric=where.metric,
            gold=where.gold(),
            size_bytes=q.bytes,
            seconds=log.seconds,
            curves={k: tuple(v) for k, v in log.curves.items()},
            extra=log.numbers,
        )


@functools.lru_cache(maxsize=2)
def _network(model: str, eval_data: str, device: str) -> Network:
    """Neighbouring cells share their network, which no method modifies."""
    return task(model, eval_data).network().to(device)


def _home(where: Task) -> tuple[str, ...]:
    """Module of a task of this library: that of texts is imported by name only, so no import leads to it."""
    module = type(where).__module__
    return (module,) if module.startswith("quantbench.") else ()


def _save_program(q: Quantized, path: Path) -> None:
    """Keep the integer network, unless parts of it run in floats, which are code and not data."""
    from quantbench.errors import Unsupported
    from quantbench.integer.store import save

    with suppress(Unsupported):
        save(lower(q), path)
