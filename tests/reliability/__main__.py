"""python -m tests.reliability [KILLS [FOLDER]]: everything that can go wrong, then the page.

An interrupted session goes on with what it had not finished, of the same package.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from quantbench.system.atomic import write_atomically
from tests.reliability.corpus.table import counts
from tests.reliability.disks.commands import COMMANDS, spoiled
from tests.reliability.disks.inject import Spoiled
from tests.reliability.disks.limits import PULL, TRACK, Short, short
from tests.reliability.fuzz.judge import Watch
from tests.reliability.fuzz.loaders import LOADERS
from tests.reliability.fuzz.session import SHARED_MEMORY, Fuzzed, drawn, guided
from tests.reliability.kills import Killed, kill, undisturbed
from tests.reliability.memory import NETWORKS, Limited, limited
from tests.reliability.nights import NIGHTS, Nights, simulate
from tests.reliability.page import Figures, page
from tests.reliability.work import WORK, Work, start_from
from tests.sweeps.scale import Scale, measured

HERE = Path(__file__).resolve().parent

PAGE = HERE.parents[1] / "docs" / "reliability.md"

SECONDS, EXAMPLES = 15, 500  # of every loader: led by coverage, and drawn by hypothesis

# whose figures are in the table, and interrupts
TESTS = ("test_corpus.py", "test_two.py", "test_clocks.py", "../cli/test_interrupt.py")

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """What is finished of a session, a file each: one that was interrupted goes on from there.

    Attributes:
        folder: of one package; another one's is refused.

    """

    folder: Path

    def begin(self, package: str) -> None:
        """Make the folder, or see that it is this package's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = self.folder / "package"
        if not stamp.exists():
            stamp.write_text(package, encoding="ascii")
        if (first := stamp.read_text(encoding="ascii")) != package:
            raise SystemExit(f"{self.folder} was begun by {first}, this is {package}: delete it")

    def once(self, name: str, kind: Callable[..., T], make: Callable[[], T]) -> T:
        """A part as it was found before, or found now; a line says so."""
        path = self.folder / f"{name}.json"
        if path.exists():
            about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return kind(**about["found"])
        start = time.monotonic()
        found = make()
        minutes = (time.monotonic() - start) / 60
        text = json.dumps({"minutes": minutes, "found": asdict(found)})  # type: ignore[call-overload]
        write_atomically(path, text)
        print(found, f"{60 * minutes:.0f} s", flush=True)
        return found

    def minutes(self) -> float:
        """That all parts took."""
        every = (
            json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("*.json")
        )
        return float(sum(about["minutes"] for about in every))


def main(count: int, folder: Path) -> None:
    """All of it, one after another: forks come before anything that starts threads."""
    parts = Parts(folder / "parts")
    parts.begin(_package())
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)  # of a part that was cut off
    spoils = [
        parts.once(f"disks {w.name}", Spoiled, lambda w=w: spoiled(w, work / "disks" / w.name))
        for w in COMMANDS
    ]
    shorts = [
        parts.once(f"short {w.name}", Short, lambda w=w: short(w, work / "short" / w.name))
        for w in (TRACK, PULL)
    ]
    with tempfile.TemporaryDirectory(dir=_quick()) as temporary:
        quick = Path(temporary)
        nights = parts.once("nights", Nights, lambda: simulate(NIGHTS, quick / "nights"))
        assert nights.alarms == 0, f"{nights.alarms} alarms with nothing wrong"
        assert all(what.startswith(said) for what, said in nights.planted.items()), nights.planted
        fuzzed = _fuzzed(parts, quick)
        scale = parts.once("scale", Scale, lambda: measured(quick / "scale"))
    memory = [
        parts.once(f"memory {n.replace('/', ' ')}", Limited, lambda n=n: limited(n, *NETWORKS[n]))
        for n in NETWORKS
    ]
    assert all(found.kept for found in memory), "a limit on memory was not kept"
    parts.once("tests", Tested, _tested)
    kills = _killed(parts, count, work / "kills")
    fuzzing, disks = (fuzzed, SECONDS), (spoils, shorts)
    found = Figures(kills, counts(), *fuzzing, *disks, nights, memory, scale, parts.minutes())
    PAGE.write_text(page(found), encoding="utf-8")


def _package() -> str:
    """Of the code that is looked at, as git has it; with a plus where files have changed since."""

    def git(*words: str) -> str:
        asked = ["git", *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "src", "methods")
    trees = git("rev-parse", "HEAD:src", "HEAD:methods").split()
    return "-".join(tree[:12] for tree in trees) + ("+" if changed else "")


def _quick() -> str | None:
    """A folder in memory, if there is one: what is counted there are programs, not disks."""
    return str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None


def _fuzzed(parts: Parts, folder: Path) -> list[Fuzzed]:
    """Every loader, by both ways."""
    watch = Watch(folder / "drawn")

    def fuzz(number: int) -> Fuzzed:
        loader = LOADERS[number]
        executions = guided(loader, SECONDS, folder / str(number))
        return Fuzzed(loader.name, executions, drawn(loader, EXAMPLES, watch))

    numbers = range(len(LOADERS))
    return [parts.once(f"loader {n}", Fuzzed, lambda n=n: fuzz(n)) for n in numbers]


@dataclass(frozen=True)
class Tested:
    """The tests that some rows stand for have passed."""


def _tested() -> Tested:
    tests = [sys.executable, "-m", "pytest", "-q", *(str(HERE / name) for name in TESTS)]
    subprocess.run(tests, check=True, cwd=HERE.parents[1])
    return Tested()


def _killed(parts: Parts, count: int, folder: Path) -> list[Killed]:
    """Kill every command about equally often."""
    found = []
    for at, work in enumerate(WORK):
        share, rng = count // len(WORK) + (at < count % len(WORK)), random.Random(at)

        def one(work: Work = work, share: int = share, rng: random.Random = rng) -> Killed:
            if work.before:
                _before(work, folder)
            return kill(work, folder, folder / work.name, share, rng)

        found.append(parts.once(f"kills {work.name}", Killed, one))
    return found


def _before(work: Work, folder: Path) -> None:
    """What the work starts from, where the part that left it was done in an earlier session."""
    first = next(w for w in WORK if w.name == work.before)
    if not (folder / first.name / "undisturbed").exists():
        start_from(folder, folder / first.name / "undisturbed", first)
        undisturbed(first, folder / first.name / "undisturbed")


if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    main(kills, Path(sys.argv[2] if len(sys.argv) > 2 else ".nox/reliability").absolute())
