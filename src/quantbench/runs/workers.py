"""Cells in processes of their own, several at once, each on one thread.

Networks of this size keep one processor busy, not two. Whoever judges the claims afterwards finds
the cells in the ledger. What a cell cannot do here it cannot do there, and is told there.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab


@dataclass(frozen=True)
class Errand:
    """One cell, as another process finds it.

    Attributes:
        claim: its id.
        rival: whether it is the rival's.
        seed: of the cell.
        whole: whether the full-precision network behind it is measured instead.

    """

    claim: str
    rival: bool
    seed: int
    whole: bool = False

    def cell(self, claims: Iterable[Claim], lab: Lab) -> Cell:
        """The cell, described anew."""
        from quantbench.claims.catalog import find

        cell = lab.cells(find(claims, self.claim))[self.rival][self.seed]
        return lab.base(cell) if self.whole else cell


def errands(claims: Iterable[Claim], lab: Lab) -> tuple[list[Errand], list[Errand]]:
    """Full-precision networks that are not measured yet, and then quantized ones, each once."""
    first, then = dict[str, Errand](), dict[str, Errand]()
    for claim in claims:
        if claim.skip:
            continue
        try:
            both = lab.cells(claim)
        except QuantbenchError:  # such as data that are not here: the claim says so itself
            continue
        for rival, cells in enumerate(both):
            for seed, cell in cells.items():
                base = lab.base(cell)
                if lab.ledger.get(base) is None:
                    first.setdefault(base.key(), Errand(claim.id, bool(rival), seed, whole=True))
                if cell.key() != base.key() and lab.ledger.get(cell) is None:
                    then.setdefault(cell.key(), Errand(claim.id, bool(rival), seed))
    return list(first.values()), list(then.values())


def finish(claims: Iterable[Claim], lab: Lab, workers: int) -> None:
    """Run what is not finished of these claims' cells, on so many processes.

    Args:
        claims: whose cells.
        lab: of the ledger, which the caller has locked, and of the progress.
        workers: processes.

    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    waves = errands(claims, lab)
    done, total = 0, sum(map(len, waves))
    try:
        # not forked: a library's threads do not survive that
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (os.getpid(),)) as pool:
            for wave in waves:
                left = [pool.submit(_run, lab.runs, lab.device, errand) for errand in wave]
                for _ in as_completed(left):
                    done += 1
                    lab.progress(done, total, f"cells, {workers} at once")
                for future in left:
                    future.result()
    except BrokenProcessPool:  # such as one that the system killed for its memory: one at a time
        return


def _begin(parent: int) -> None:
    """In each process, before anything is imported that starts threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and this one ends with it
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent").start()
    import torch

    torch.set_num_threads(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(runs: Path, device: str, errand: Errand) -> None:
    from quantbench.claims.catalog import read_claims
    from quantbench.runs.lab import Lab

    lab = Lab(runs, device)
    try:
        lab.result(errand.cell(read_claims(), lab))
    except Exception:  # noqa: BLE001 - the caller meets it again, and tells it of its claim
        return
