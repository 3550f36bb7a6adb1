"""Commands on a disk that takes files up to a size: libraries and child processes meet it, too."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from quantbench.cli.main import main
from tests.reliability import in_clone
from tests.reliability.disks.commands import COMMANDS, filled, small
from tests.reliability.disks.faults import Faults
from tests.reliability.disks.inject import Command, Ran, forked
from tests.reliability.work import Digests, Work

SIZES = (4, 64, 256, 1024)  # KiB


@dataclass(frozen=True)
class Short:
    """What became of one command.

    Attributes:
        name: of the command.
        stopped: sizes at which it could not end, in KiB.

    """

    name: str
    stopped: tuple[int, ...]


def uploaded(folder: Path) -> Digests:
    """Cells whose upload came to its end, and how often each is there."""
    store = folder / "store.db"
    if not store.exists():
        return {}
    with closing(sqlite3.connect(store)) as opened:
        try:
            rows = opened.execute("select value from tags where key = 'record'").fetchall()
        except sqlite3.OperationalError:  # its tables are not made yet
            return {}
    found = [value for (value,) in rows]
    return {value: str(found.count(value)) for value in found}


TRACK = Work("track", ("track", "--to", "sqlite:///store.db", "--runs", "runs"), uploaded, "run")

PULL = next(work for work in COMMANDS if work.data)


def short(work: Work, folder: Path) -> Short:
    """Run a command at every size, and then to its end.

    Raises:
        AssertionError: a full disk was not told, cost something, or the end came out otherwise.

    """
    command: Command = in_clone.run if work.data else main
    with small():
        start = filled(work, folder)
        whole = _new(folder / "undisturbed" / "place", start)
        assert forked(command, work.words, whole, Faults(Path())).code == 0
        kept, stopped = work.kept(whole), []
        assert kept, f"{work.name} left nothing"
        for size in SIZES:
            place = _new(folder / str(size) / "place", start)
            ran = forked(_limited(command, size), work.words, place, Faults(Path()))
            assert work.kept(place).items() <= kept.items(), f"{work.name}, {size} KiB: {ran.said}"
            if ran.code:
                _require_said(ran, f"{work.name}, {size} KiB")
                stopped.append(size)
            again = forked(command, work.words, place, Faults(Path()))
            assert again.code == 0, f"{work.name}, after {size} KiB: {again.said}"
            assert work.kept(place) == kept, f"{work.name}, after {size} KiB: other results"
            shutil.rmtree(place)
    return Short(work.name, tuple(stopped))


def _new(place: Path, start: Callable[[Path], object]) -> Path:
    place.mkdir(parents=True)
    start(place)
    return place


def _require_said(ran: Ran, what: str) -> None:
    assert ran.code == 2, f"{what}: {ran.code}: {ran.said}"
    assert "Traceback" not in ran.said, f"{what}: {ran.said}"
    words = ("too large", "disk is full", "I/O error", "not here")
    assert any(word in ran.said for word in words), f"{what}: {ran.said}"


def _limited(command: Command, kib: int) -> Command:
    """The command in a process that can write no larger file."""

    def limited(words: list[str]) -> int:
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, most))
        try:
            # Python keeps compiled modules that were cut off, and cannot import them ever after
            children = patch.dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
            with children, patch.object(sys, "dont_write_bytecode", True):
                return command(words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))

    return limited
