"""``quantbench sweep``: many methods on many networks, counted first, resumable, in shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.cli.bench import CLEAN, MISSED
from quantbench.errors import BadInput, CannotWrite

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab
    from quantbench.runs.ledger import Stored
    from quantbench.sweeps.engine import Done, Engine
    from quantbench.sweeps.plan import Job, Sweep


def sweep(options: argparse.Namespace) -> int:
    """Run what is not finished; the exit code is 1 when a cell ended with an error."""
    from quantbench.runs.lab import Lab
    from quantbench.sweeps.plan import Shard

    if options.device != "cpu":
        from quantbench.system.machine import device

        device(options.device)
    if options.address and options.engine != "ray":
        raise BadInput("--address is of a Ray cluster: add --engine ray")
    lab = Lab(Path(options.runs), options.device)
    shard = Shard.read(options.shard)
    jobs = list(shard.take(_read(options).jobs()))
    with lab.ledger.lock():
        finished = {s.key: s for s in lab.ledger.stored()}  # what is damaged runs again
        cells = [(job, job.cell(lab)) for job in jobs]
        keys = [cell.key() for _, cell in cells]
        left = [pair for pair, key in zip(cells, keys, strict=True) if key not in finished]
        _announce(len(cells), left, finished.values(), shard.of)
        if options.dry_run:
            return CLEAN
        here = zip(jobs, keys, strict=True)
        before = [(job, finished[key].result) for job, key in here if key in finished]
        ended: list[Done] = []
        try:
            ended += _run(_engine(options), left, lab)
        except BaseException:
            with suppress(CannotWrite):  # what stopped the sweep is told
                _end(before, ended, options.table)
            raise
        _end(before, ended, options.table)
    return MISSED if any(done.error for done in ended) else CLEAN


def _end(before: Iterable[tuple[Job, Result]], ended: Sequence[Done], file: str | None) -> None:
    """What is not finished, and the table of what is."""
    for done in ended:
        if done.error:
            print(f"not finished: {done.job}: {done.error}", file=sys.stderr)
    _table([*before, *((d.job, d.found) for d in ended if d.found)], file)


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


def _announce(
    count: int, left: list[tuple[Job, Cell]], finished: Iterable[Stored], shards: int
) -> None:
    """How much there is to do, and how long it will take by the ledger's own times."""
    from quantbench.sweeps.estimate import Times, in_words

    times = Times.of(finished)
    known = [seconds for _, cell in left if (seconds := times.estimate(cell)) is not None]
    print(f"{count} cells{' of this shard' if shards > 1 else ''}, {len(left)} to run")
    if not left:
        return
    about = f"about {in_words(sum(known))} on one processor" if known else "no estimate"
    if unknown := len(left) - len(known):
        about += f"; of {unknown} cells no like has run here yet"
    print(about)


def _run(engine: Engine, left: list[tuple[Job, Cell]], lab: Lab) -> Iterator[Done]:
    """A bar with the time left, and a line for each cell that ended."""
    from tqdm import tqdm

    often = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(total=len(left), unit="cell", mininterval=often, dynamic_ncols=True) as bar:
        for done in engine(left, lab):
            r = done.found
            shown = f"{r.q_top1:.2f} ({-r.drop:+.2f})" if r else f"failed: {done.error}"
            bar.write(f"{done.job}  {shown}")
            bar.update()
            yield done


def _table(finished: Iterable[tuple[Job, Result]], file: str | None) -> None:
    from quantbench.sweeps.summary import markdown, rows
    from quantbench.system.atomic import write_atomically

    text = markdown(rows(finished))
    with suppress(BrokenPipeError):
        print(text, end="")
    if file:
        write_atomically(Path(file), text)
