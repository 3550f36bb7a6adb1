"""``quantbench sweep``: many methods on many networks, counted first, resumable, in shards."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantbench.cli.bench import CLEAN, MISSED
from quantbench.errors import BadInput, CannotWrite
from quantbench.system.pace import Pace
from quantbench.system.progress_bar import often

if TYPE_CHECKING:
    from tqdm import tqdm

    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab
    from quantbench.sweeps.engine import Done, Engine
    from quantbench.sweeps.estimate import Times
    from quantbench.sweeps.plan import Job, Sweep
    from quantbench.sweeps.summary import Brief


def sweep(options: argparse.Namespace) -> int:
    """Run what is not finished; the exit code is 1 when a cell ended with an error."""
    from quantbench.runs.lab import Lab
    from quantbench.sweeps.plan import Shard
    from quantbench.sweeps.summary import Brief

    if options.device != "cpu":
        from quantbench.system.machine import device

        device(options.device)
    if options.address and options.engine != "ray":
        raise BadInput("--address is of a Ray cluster: add --engine ray")
    bar = _Bar()
    lab = Lab(Path(options.runs), options.device, bar)
    shard = Shard.read(options.shard)
    jobs = list(shard.take(_read(options).jobs()))
    with lab.ledger.lock():
        cells = [(job, job.cell(lab)) for job in jobs]
        keys = [cell.key() for _, cell in cells]
        finished, times = _finished(lab, frozenset(keys))  # what is damaged runs again
        left = [pair for pair, key in zip(cells, keys, strict=True) if key not in finished]
        _announce(len(cells), left, times, shard.of)
        if options.dry_run:
            return CLEAN
        here = zip(jobs, keys, strict=True)
        ended = [(job, finished[key]) for job, key in here if key in finished]
        failed: list[Done] = []
        try:
            for done in bar.run(_engine(options), left, lab):
                if done.found:
                    ended.append((done.job, Brief.of(done.found)))
                else:
                    failed.append(done)
        except BaseException:
            with suppress(CannotWrite):  # what stopped the sweep is told
                _end(ended, failed, options.table)
            raise
        _end(ended, failed, options.table)
    return MISSED if failed else CLEAN


def _end(ended: Iterable[tuple[Job, Brief]], failed: Iterable[Done], file: str | None) -> None:
    """What is not finished, and the table of what is."""
    for done in failed:
        print(f"not finished: {done.job}: {done.error}", file=sys.stderr)
    _table(ended, file)


def _finished(lab: Lab, wanted: Collection[str]) -> tuple[dict[str, Brief], Times]:
    """What is finished of these keys, and how long every finished run took."""
    from quantbench.sweeps.estimate import Times
    from quantbench.sweeps.summary import Brief

    found, times = dict[str, "Brief"](), Times()
    for run in lab.ledger.stored():
        times.add(run.fields, sum(run.result.seconds.values()))
        if run.key in wanted:
            found[run.key] = Brief.of(run.result)
    return found, times


def _read(options: argparse.Namespace) -> Sweep:
    from quantbench.sweeps.read import from_file, from_words

    words = options.methods, options.cells, options.networks
    if options.seeds is not None and options.seeds < 1:
        raise BadInput(f"--seeds {options.seeds}: at least 1")
    if options.file:
        if any((*words, options.calib, options.seeds)):
            raise BadInput("a sweep's file says all itself: give either a file or --methods etc.")
        return from_file(Path(options.file))
    return from_words(*words, options.calib, options.seeds or 1)


def _engine(options: argparse.Namespace) -> Engine:
    if options.engine == "ray":
        from quantbench.sweeps.cluster import on

        return on(options.address)
    from quantbench.sweeps.engine import here

    return here


def _announce(count: int, left: list[tuple[Job, Cell]], times: Times, shards: int) -> None:
    """How much there is to do, and how long it will take by the ledger's own times."""
    from quantbench.sweeps.estimate import in_words

    known = [seconds for _, cell in left if (seconds := times.estimate(cell)) is not None]
    print(f"{count} cells{' of this shard' if shards > 1 else ''}, {len(left)} to run")
    if not left:
        return
    about = f"about {in_words(sum(known))} on one processor" if known else "no estimate"
    if unknown := len(left) - len(known):
        about += f"; of {unknown} cells no like has run here yet"
    print(about)


@dataclass
class _Bar:
    """The bar of a sweep: its cells, and how far the one that runs here is.

    A terminal or notebook sees it move; a log has a line every half minute.
    """

    cells: tqdm[Any] | None = None
    pace: Pace = field(default_factory=Pace)
    shown: float = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Progress within a cell."""
        now = time.monotonic()
        told = self.pace.told(done, total, now)
        if self.cells is None or now - self.shown < often():
            return
        self.shown = now
        self.cells.set_postfix_str(f"{what} {told}")

    def run(self, engine: Engine, left: list[tuple[Job, Cell]], lab: Lab) -> Iterator[Done]:
        """Cells as they end, with a line for each."""
        from tqdm.auto import tqdm

        with tqdm(total=len(left), unit="cell", mininterval=often(), dynamic_ncols=True) as bar:
            self.cells = bar
            for done in engine(left, lab):
                r = done.found
                shown = f"{r.q_top1:.2f} ({-r.drop:+.2f})" if r else f"failed: {done.error}"
                bar.write(f"{done.job}  {shown}")
                bar.update()
                yield done


def _table(finished: Iterable[tuple[Job, Brief]], file: str | None) -> None:
    from quantbench.sweeps.summary import markdown, rows
    from quantbench.system.atomic import write_atomically

    text = markdown(rows(finished))
    with suppress(BrokenPipeError):
        print(text, end="")
    if file:
        write_atomically(Path(file), text)
