"""python -m tests.reliability [KILLS [FOLDER]]: everything that can go wrong, then the page."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.reliability.corpus.table import counts
from tests.reliability.disks.commands import COMMANDS, spoiled
from tests.reliability.disks.limits import PULL, TRACK, short
from tests.reliability.fuzz.judge import Watch
from tests.reliability.fuzz.loaders import LOADERS
from tests.reliability.fuzz.session import SHARED_MEMORY, Fuzzed, drawn, guided
from tests.reliability.kills import Killed, kill
from tests.reliability.memory import NETWORKS, limited
from tests.reliability.nights import NIGHTS, simulate
from tests.reliability.page import Figures, page
from tests.reliability.work import WORK
from tests.sweeps.scale import measured

HERE = Path(__file__).resolve().parent

PAGE = HERE.parents[1] / "docs" / "reliability.md"

SECONDS, EXAMPLES = 15, 500  # of every loader: led by coverage, and drawn by hypothesis

# whose figures are in the table, and interrupts
TESTS = ("test_corpus.py", "test_two.py", "test_clocks.py", "../cli/test_interrupt.py")

T = TypeVar("T")


def main(count: int, folder: Path) -> None:
    """All of it, one after another: forks come before anything that starts threads."""
    start = time.monotonic()
    spoils = [_told(lambda w=w: spoiled(w, folder / "disks" / w.name)) for w in COMMANDS]
    shorts = [_told(lambda w=w: short(w, folder / "short" / w.name)) for w in (TRACK, PULL)]
    with tempfile.TemporaryDirectory(dir=_quick()) as quick:
        nights = _told(lambda: simulate(NIGHTS, Path(quick) / "nights"))
        assert nights.alarms == 0, f"{nights.alarms} alarms with nothing wrong"
        assert all(what.startswith(said) for what, said in nights.planted.items()), nights.planted
        fuzzed = _fuzzed(Path(quick))
        scale = _told(lambda: measured(Path(quick) / "scale"))
    memory = [_told(lambda n=n: limited(n, *NETWORKS[n])) for n in NETWORKS]
    assert all(found.kept for found in memory), "a limit on memory was not kept"
    tests = [sys.executable, "-m", "pytest", "-q", *(str(HERE / name) for name in TESTS)]
    subprocess.run(tests, check=True, cwd=HERE.parents[1])
    kills = _killed(count, folder / "kills")
    minutes = (time.monotonic() - start) / 60
    fuzzing, disks = (fuzzed, SECONDS), (spoils, shorts)
    found = Figures(kills, counts(), *fuzzing, *disks, nights, memory, scale, minutes)
    PAGE.write_text(page(found), encoding="utf-8")


def _told(make: Callable[[], T]) -> T:
    """What is made, and a line of it with the time that it took."""
    start = time.monotonic()
    found = make()
    print(found, f"{time.monotonic() - start:.0f} s", flush=True)
    return found


def _quick() -> str | None:
    """A folder in memory, if there is one: what is counted there are programs, not disks."""
    return str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None


def _fuzzed(folder: Path) -> list[Fuzzed]:
    """Every loader, by both ways."""
    watch, found = Watch(folder / "drawn"), []
    for number, loader in enumerate(LOADERS):
        executions = guided(loader, SECONDS, folder / str(number))
        found.append(Fuzzed(loader.name, executions, drawn(loader, EXAMPLES, watch)))
        print(found[-1], flush=True)
    return found


def _killed(count: int, folder: Path) -> list[Killed]:
    """Kill every command about equally often."""
    rng, found = random.Random(0), []
    for at, work in enumerate(WORK):
        share = count // len(WORK) + (at < count % len(WORK))
        found.append(_told(lambda w=work, n=share: kill(w, folder, folder / w.name, n, rng)))
    return found


if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    if len(sys.argv) > 2:
        main(kills, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(kills, Path(temporary))
