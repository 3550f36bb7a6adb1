"""The engine: from a claim to its cells, from cells to results, which are kept."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quantbench.evidence.result import Result
from quantbench.runs.cell import Cell, task_of
from quantbench.runs.ledger import Ledger
from quantbench.runs.recipe import Recipe
from quantbench.system.memory import keep_freed, peak_megabytes, restart_peak
from quantbench.system.progress import Progress, silent
from quantbench.tasks import measure
from quantbench.tasks.measure import FullPrecision
from quantbench.tasks.registry import task
from quantbench.tasks.task import Task

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim, Fields
    from quantbench.network.network import Network
    from quantbench.quantization.quantized import Quantized
    from quantbench.quantization.scheme import Scheme

Digests = tuple[str, str, str]  # of weights, calibration set and evaluation set


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
    progress: Progress = silent
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
        where = task(claim.model, claim.data)
        digests = where.digests(_calibration(claim)[0])  # what is not here is a skip, before all
        return self._cells(claim, where, digests)

    def ids(self, claim: Claim) -> list[str]:
        """Ids of the same cells; no data need be here for them.

        Raises:
            BadInput: a method or option that does not exist.

        """
        named = cast("Task", _Named(claim.model, claim.data))
        own, against = self._cells(claim, named, ("", "", ""))  # which are no part of an id
        return [cell.id for cell in (*own.values(), *against.values())]

    def _cells(
        self, claim: Claim, where: Task, digests: Digests
    ) -> tuple[dict[int, Cell], dict[int, Cell]]:
        calib, n = _calibration(claim)

        def by_seed(name: str, fields: Fields, scheme: Scheme | None) -> dict[int, Cell]:
            method = Recipe(name, fields) if name else FullPrecision()
            about = (where, method, scheme, calib, n)
            found = {s: self.cell(*about, s, digests) for s in claim.seeds}
            for cell in found.values():
                cell.described  # noqa: B018 - wrong options are an error here
            return found

        rival = claim.rival
        own = by_seed(claim.method, claim.fields, claim.scheme)
        return own, by_seed(rival.method, rival.fields, rival.scheme) if rival else {}

    def cell(
        self,
        where: Task,
        method: Any,
        scheme: Scheme | None,
        calib: str,
        n: int,
        seed: int,
        digests: Digests | None = None,
    ) -> Cell:
        """One run, fully described; ``digests`` are the task's, where they are known already."""
        checkpoint, calib_digest, eval_digest = digests or where.digests(calib)
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
            task=where,
        )

    def base(self, cell: Cell) -> Cell:
        """The full-precision network behind a cell."""
        return self.cell(task_of(cell), FullPrecision(), None, "", 0, 0)

    def program(self, cell: Cell) -> Path:
        """Where a finished cell of integer placement keeps its integer network."""
        return self.runs / "quantized" / cell.key() / "program.safetensors"

    def network(self, cell: Cell) -> Network:
        """The cell's full-precision network."""
        return measure.network(task_of(cell), self.device)

    def result(self, cell: Cell) -> Result:
        """The cell's result: from the ledger, or by running it and storing what it found."""
        stored = self.ledger.get(cell)
        if stored is not None:
            return stored
        keep_freed()
        whole = isinstance(cell.method, FullPrecision)
        found = self._full_precision(cell) if whole else self._quantized(cell)
        self.ledger.put(cell, found)
        self.fresh.append(cell.key())
        return found

    def _full_precision(self, cell: Cell) -> Result:
        """Measure the network as it was published."""
        where = task_of(cell)
        self.progress(0, 1, "full precision")
        start = time.perf_counter()
        scores = measure.full_precision(where, self.device)
        seconds = {"evaluate": time.perf_counter() - start}
        digest = self.network(cell).digest
        return Result.of(
            scores, scores, digest, metric=where.metric, gold=where.gold(), seconds=seconds
        )

    def _quantized(self, cell: Cell) -> Result:
        """Measure the quantized network, and keep it."""
        where, key, scheme = task_of(cell), cell.key(), cell.scheme
        assert scheme is not None
        base = self.result(self.base(cell))
        method = cell.method.make() if isinstance(cell.method, Recipe) else cell.method
        restart_peak()
        q, scores, log = measure.quantized(
            where,
            method,
            scheme,
            cell.calib,
            cell.calib_n,
            cell.seed,
            device=self.device,
            progress=self.progress,
            scratch=self.runs / "scratch" / key,
        )
        _save(q, self.runs / "quantized" / key)
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
            extra={**log.numbers, "peak_megabytes": round(peak_megabytes(), 1)},
        )


@dataclass(frozen=True)
class _Named:
    """What of a task a cell's id depends on."""

    model: str
    eval_data: str


def _calibration(claim: Claim) -> tuple[str, int]:
    """Name of a claim's calibration set and the number of examples drawn from it."""
    return (claim.calib.data, claim.calib.n) if claim.calib and claim.scheme else ("", 0)


def _save(q: Quantized, folder: Path) -> None:
    """Keep the quantized network."""
    from quantbench.quantization import serialize

    serialize.save(q, folder)


def _save_program(q: Quantized, path: Path) -> None:
    """Keep the integer network, unless parts of it run in floats, which are code and not data."""
    from quantbench.errors import Unsupported
    from quantbench.integer.lowering.lower import lower
    from quantbench.integer.store import save

    with suppress(Unsupported):
        save(lower(q), path)
