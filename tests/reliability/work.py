"""What is killed: commands, what each must leave at its end, and what may never be damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quantbench.data.manifest import table
from quantbench.gate.baseline import Baseline
from quantbench.runs.ledger import Ledger
from tests.reliability import in_clone

CLAIMS = "shapes and resnet8 and (fp or here-integer-nearest)"

Digests = Mapping[str, str]


@dataclass(frozen=True)
class Work:
    """One command.

    Attributes:
        name: of the command.
        words: its words; folders are below the one that it works in.
        kept: digests of what it leaves, equal after every run that ends; fails where a file is
            damaged, and holds less where the command did not end.
        before: the command whose results it starts from, if any.
        data: whether it works in a clone of its own, on the data of that.

    """

    name: str
    words: tuple[str, ...]
    kept: Callable[[Path], Digests]
    before: str = ""
    data: bool = False

    def command(self) -> list[str]:
        """As a process."""
        module = f"tests.reliability.{'in_clone' if self.data else 'few'}"
        return [sys.executable, "-m", module, *self.words]


def cells(folder: Path) -> Digests:
    """Scores and networks of all cells, without times; a damaged cell is an error."""
    damaged: list[str] = []
    stored = list(Ledger(folder / "runs" / "cells", damaged.append).stored())
    aside = list((folder / "runs" / "cells").glob("damaged/*"))
    if damaged or aside:
        raise AssertionError(f"damaged cells: {damaged or aside}")
    found = {s.id: _sha(s.result.fp + s.result.quantized + s.result.digest) for s in stored}
    for s in stored:
        networks = sorted((folder / "runs" / "quantized" / s.key).glob("*.safetensors"))
        for path in networks:
            found[f"{s.id} {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def baseline(folder: Path) -> Digests:
    """What was accepted; a baseline that cannot be read is an error."""
    path = folder / "baseline.json"
    if not path.exists():
        return {}
    found = Baseline.read(path)
    return {name: _sha(str(cell.scores)) for name, cell in found.cells.items()}


def page(name: str) -> Callable[[Path], Digests]:
    """Whether a page is there; half a page is an error."""

    def kept(folder: Path) -> Digests:
        path = folder / "runs" / "report" / name
        if not path.exists():
            return {}
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), f"half of {name}"
        return {name: "whole"}

    return kept


def whole(*names: str) -> Callable[[Path], Digests]:
    """Files by their contents, as far as they are there."""

    def kept(folder: Path) -> Digests:
        there = [folder / name for name in names if (folder / name).exists()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there}

    return kept


def files(folder: Path) -> Digests:
    """Files of a data folder that are what was published; half of one is told, and pulled again."""
    every = (path for path in (folder / "data").rglob("*") if path.is_file())
    sums = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in every}
    whole = {entry.sha256 for entry in table().values()}
    return {name: digest for name, digest in sums.items() if digest in whole}


RUNS = ("--runs", "runs")
EMBEDDED = ("--tier", "embedded", "-k", CLAIMS, *RUNS)

WORK = (
    Work("run", ("run", *EMBEDDED), cells),
    Work(
        "sweep",
        (
            *("sweep", "--methods", "nearest", "--cells", "w4", "w8", "--seeds", "3"),
            *("--networks", "shapes/resnet8", *RUNS),
        ),
        cells,
    ),
    Work(
        "accept",
        ("accept", *EMBEDDED, "--baseline", "baseline.json", "--no-latency", "--why", "a kill"),
        baseline,
        before="run",
    ),
    Work("report", ("report", *EMBEDDED), page("index.html"), before="run"),
    Work("data pull", ("data", "pull", "embedded"), files, data=True),
    Work("latency", ("latency", "-k", "linear", "--seconds", "0.2", *RUNS), page("latency.html")),
)


def start_from(finished: Path, folder: Path, work: Work) -> None:
    """A new folder for the work, with what it starts from."""
    folder.mkdir(parents=True)
    if work.data:
        in_clone.make(folder)
    if work.before:
        shutil.copytree(finished / work.before / "undisturbed" / "runs", folder / "runs")
        shutil.rmtree(folder / "runs" / "report", ignore_errors=True)


def _sha(text: str) -> str:
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()
