"""What is spoiled: every command that writes, small enough to be run a hundred times."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quantbench.cli.main import main
from quantbench.data.roots import cache_root
from quantbench.report import latency_tracking
from tests.gate import test_planted as planted
from tests.reliability import in_clone
from tests.reliability.corpus import baselines
from tests.reliability.disks.faults import Faults
from tests.reliability.disks.inject import Command, Spoiled, forked, spoil
from tests.reliability.work import Work, baseline, cells, files, page, whole

CLAIMS = planted.CLAIMS.replace('"mse"', '"minmax"').replace("n = 64", "n = 16")

SWEEP = """cells = ["w4"]

[schemes.default]
weights = { range = "minmax" }

[[network]]
name = "shapes/resnet8"
data = "shapes/test"
calib = { data = "shapes/calib", n = 16 }

[[method]]
name = "planted"
"""

RUNS = ("--runs", "runs")

ACCEPT = ("accept", "--baseline", "ours.json", "--why", "w", *RUNS)

GATE = ("gate", "--baseline", "ours.json", "--junit", "junit.xml", "--summary", "summary.md", *RUNS)

IMPORT = ("import", "theirs.csv", "--model", "shapes/resnet8", "--eval", "shapes/test", *RUNS)

COMMANDS = (
    Work("run", ("run", *RUNS), cells),
    Work("sweep", ("sweep", "sweep.toml", "--table", "table.md", *RUNS), cells),
    Work("accept", ("accept", "--baseline", "baseline.json", "--why", "w", *RUNS), baseline, "run"),
    Work("gate", GATE, whole("junit.xml", "summary.md"), "run"),
    Work("measured", ("measured", "--file", "measured.md", *RUNS), whole("measured.md"), "run"),
    Work("import", IMPORT, whole("runs/others/theirs.json"), "run"),
    Work("report", ("report", *RUNS), page("index.html"), "run"),
    Work("latency", ("latency", "-k", "linear", "--seconds", "0.05", *RUNS), page("latency.html")),
    Work("data pull", ("data", "pull", "embedded"), files, data=True),
)

# what every fork would import again
SLOW_IMPORTS = ("rich.table", "quantbench.report.page.build")


@contextmanager
def small() -> Iterator[None]:
    """Few images, a method and a claim of the tests, no MLflow: in this process and its forks."""
    with pytest.MonkeyPatch.context() as patch:
        planted.prepare(patch, cache_root())
        patch.setattr(planted.catalog, "_texts", lambda: [("planted.toml", CLAIMS)])
        patch.setattr(latency_tracking, "upload", lambda _: 0)
        yield
    planted.forget()


def spoiled(work: Work, folder: Path) -> Spoiled:
    """One command, with each of its writes refused."""
    folder.mkdir(parents=True)
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    with small():
        command: Command = in_clone.run if work.data else main
        return spoil(work, command, filled(work, folder), folder / "places")


def filled(work: Work, folder: Path) -> Callable[[Path], None]:
    """What the command starts from; a cache of parsed sources saves the time of parsing."""
    finished, parsed = folder / "finished", cache_root() / "sources.json"
    if work.before:
        _cached(finished, parsed)
        for words in (COMMANDS[0].words, ACCEPT):
            ran = forked(main, words, finished, Faults(Path()))
            assert ran.code in (0, 3), ran.said

    def fill(place: Path) -> None:
        _cached(place, parsed)
        (place / "sweep.toml").write_text(SWEEP)
        if work.before:
            shutil.copytree(finished / "runs", place / "runs")
            shutil.copy(finished / "ours.json", place)
        if work.name == "import":
            (place / "theirs.csv").write_text("theirs w8\n" + "1\n" * planted.IMAGES)
        if work.name == "accept":
            baselines.whole(place / "baseline.json")
        if work.data:
            in_clone.make(place)

    return fill


def _cached(place: Path, parsed: Path) -> None:
    (place / "cache").mkdir(parents=True)
    if parsed.exists():
        shutil.copy(parsed, place / "cache")
