"""Commands are killed at random moments, and then run to their end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.reliability import in_clone
from tests.reliability.work import Digests, Work, start_from

CHAIN = 5  # kills of one folder, before the command may end there


@dataclass(frozen=True)
class Ended:
    """An undisturbed run.

    Attributes:
        seconds: how long it took.
        kept: what it left.

    """

    seconds: float
    kept: Digests


@dataclass
class Killed:
    """What became of one command's kills.

    Attributes:
        name: of the command.
        kills: how many hit it.
        late: how many more came when it had ended.
        ends: runs to the end that followed, each with the digests of the undisturbed run.
        seconds: of the undisturbed run.

    """

    name: str
    seconds: float
    kills: int = 0
    late: int = 0
    ends: int = 0


def undisturbed(work: Work, folder: Path) -> Ended:
    """Run it once to the end."""
    start = time.perf_counter()
    _finish(work, folder)
    return Ended(time.perf_counter() - start, work.kept(folder))


def kill(work: Work, finished: Path, folder: Path, count: int, rng: random.Random) -> Killed:
    """Kill a command, at moments drawn evenly over the time that it takes.

    Args:
        work: the command.
        finished: where the undisturbed runs are, a folder for each command.
        folder: new folders go there.
        count: kills that hit, in chains of at most :data:`CHAIN` in one folder, in which the
            command is then run to its end.
        rng: draws the moments.

    Raises:
        AssertionError: something was damaged, lost, or came out otherwise.

    """
    start_from(finished, folder / "undisturbed", work)
    ended = undisturbed(work, folder / "undisturbed")
    assert ended.kept, f"{work.name} left nothing: kills could damage nothing"
    found = Killed(work.name, ended.seconds)
    while found.kills < count:
        place = folder / str(found.ends)
        start_from(finished, place, work)
        before = work.kept(place)
        for _ in range(min(CHAIN, count - found.kills)):
            late = _disturb(work, place, rng.uniform(0, ended.seconds))
            after = work.kept(place)  # fails where something is damaged
            assert before.items() <= after.items(), f"lost: {before.keys() - after.keys()}"
            assert after.items() <= ended.kept.items(), "a result that no undisturbed run has"
            if late:
                found.late += 1
                break
            before, found.kills = after, found.kills + 1
        _finish(work, place)
        assert work.kept(place) == ended.kept, f"{work.name} came out otherwise after kills"
        found.ends += 1
    return found


def _disturb(work: Work, folder: Path, seconds: float) -> bool:
    """Start it, and kill it and all that it started; whether it had ended before."""
    with tempfile.TemporaryFile() as said:  # and no pipe, which whoever outlives it would keep open
        process = _start(work, folder, said)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        said.seek(0)
        out = said.read().decode(errors="replace")
    assert process.returncode in (0, 3), f"{work.name} ended with {process.returncode}:\n{out}"
    return True


def _finish(work: Work, folder: Path) -> None:
    with _start(work, folder, subprocess.PIPE) as process:
        out, _ = process.communicate()
    assert process.returncode in (0, 3), f"{work.name} ended with {process.returncode}:\n{out}"


def _start(work: Work, folder: Path, stdout: int | IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        work.command(),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(in_clone.ROOT)},
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
