"""A command, with each of its writes refused in turn; every time it says so, and loses nothing.

Each run is a fork of one process that has imported what commands use.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.disks.faults import FULL, READ_ONLY, Faults
from tests.reliability.work import Digests, Work

Command = Callable[[list[str]], int]

# copies of what is elsewhere: the command does without them, and ends as if nothing had been
COPIES = ("cache", ".benchmarks")


@dataclass(frozen=True)
class Ran:
    """One run.

    Attributes:
        code: exit code.
        said: stdout and stderr.
        seen: writes, in order: kind and path.
        refused: path of the first that was refused, if any.

    """

    code: int
    said: str
    seen: tuple[tuple[str, str], ...]
    refused: str


@dataclass(frozen=True)
class Spoiled:
    """What became of one command.

    Attributes:
        name: of the command.
        points: writes of an undisturbed run, each refused once.

    """

    name: str
    points: int


def spoil(work: Work, command: Command, start: Callable[[Path], object], folder: Path) -> Spoiled:
    """Refuse each write of a command in turn.

    Args:
        work: the words, and digests of what they leave.
        command: runs words in this process.
        start: fills a new folder with what the command starts from.
        folder: new folders go there.

    Raises:
        AssertionError: a refusal was not told, cost something that was there, or the same command
            afterwards ended with something else.

    """
    whole, cache = folder / "undisturbed", folder / "first" / "cache"
    _run(work, command, start, folder / "first")

    def warm(place: Path) -> None:
        """With a cache that an earlier run has filled."""
        start(place)
        shutil.rmtree(place / "cache", ignore_errors=True)
        shutil.copytree(cache, place / "cache")

    ended = _run(work, command, warm, whole)
    assert ended.code in (0, 3), ended.said
    kept, rng = work.kept(whole), random.Random(0)
    assert kept, f"{work.name} left nothing: refusals could damage nothing"
    for at in range(1, len(ended.seen) + 1):
        faults = Faults(Path(), at, rng.choice((FULL, READ_ONLY)))
        _refused(work, command, warm, folder / f"{at}", faults, kept)
        shutil.rmtree(folder / f"{at}")
    return Spoiled(work.name, len(ended.seen))


def _refused(
    work: Work,
    command: Command,
    start: Callable[[Path], object],
    place: Path,
    faults: Faults,
    kept: Digests,
) -> None:
    place.mkdir(parents=True)
    start(place)
    before = work.kept(place)
    ran = forked(command, work.words, place, faults)
    what = f"{work.name}, write {faults.at}, {os.strerror(faults.error)}, {ran.refused}"
    require_told(ran, what)
    _require_kept(before, work.kept(place), kept, what)
    again = forked(command, work.words, place, Faults(Path()))
    assert again.code in (0, 3), f"{what}: then {again.code}: {again.said}"
    assert work.kept(place) == kept, f"{what}: it came out otherwise afterwards"


def require_told(ran: Ran, what: str) -> None:
    """An exit code and the path, or, of a copy, neither."""
    assert ran.refused, f"{what}: nothing was refused"
    assert "Traceback" not in ran.said, f"{what}: {ran.said}"
    if ran.refused.partition("/")[0] in COPIES:
        return
    assert ran.code not in (0, 3), f"{what}: ended with {ran.code}: {ran.said}"
    assert final(ran.refused) in ran.said, f"{what}: not named: {ran.said}"


def final(path: str) -> str:
    """Of a file that is written aside, the name that it will have; of a lock, its folder."""
    path = path.removesuffix("/.lock")
    return re.sub(r"(^|/)\.([^/]+)\.\d+\.tmp$", r"\1\2", path)


def _require_kept(before: Digests, after: Digests, ended: Digests, what: str) -> None:
    assert before.items() <= after.items(), f"{what}: lost {before.keys() - after.keys()}"
    assert after.items() <= ended.items(), f"{what}: a result that no undisturbed run has"


def _run(work: Work, command: Command, start: Callable[[Path], object], place: Path) -> Ran:
    place.mkdir(parents=True)
    start(place)
    return forked(command, work.words, place, Faults(Path()))


def forked(command: Command, words: tuple[str, ...], place: Path, faults: Faults) -> Ran:
    """Run words in a fork of this process, in a folder."""
    told, log = place.parent / "told.json", place.parent / "log"
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _child(command, list(words), place, faults, told, log)
    _, status = os.waitpid(child, 0)
    said = log.read_text(errors="replace")
    assert told.exists(), f"{words}: ended by status {status}: {said}"
    about: Mapping[str, object] = json.loads(told.read_text())
    return Ran(said=said, **{**about, "seen": tuple(map(tuple, about["seen"]))})


def _child(
    command: Command, words: list[str], place: Path, faults: Faults, told: Path, log: Path
) -> None:
    """Never returns."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = os.fdopen(out, "w", buffering=1)  # pytest's own are elsewhere
    os.chdir(place)
    faults.folder = place.resolve()
    try:
        os.environ["QUANTBENCH_CACHE"] = str(place / "cache")
        faults.install()
        code = command(words)
    except BaseException:  # noqa: BLE001 - a test reads it
        import traceback

        traceback.print_exc()
        code = -1
    faults.folder = Path("/nowhere")
    sys.stdout.flush()
    about = {"code": int(code), "seen": faults.seen, "refused": faults.refused}
    told.write_text(json.dumps(about))
    os._exit(0)
