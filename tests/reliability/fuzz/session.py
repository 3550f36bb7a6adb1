"""Every loader, fuzzed for a stated time: by coverage, and with values drawn by hypothesis."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.reliability.fuzz.edits import CHANGES, EDITS, changed, edited
from tests.reliability.fuzz.judge import Watch, accepted, met
from tests.reliability.fuzz.loaders import Loader

SHARED_MEMORY = Path("/dev/shm")

FOUND = Path(".nox/reliability/found")  # inputs that ended otherwise than they must


@dataclass(frozen=True)
class Fuzzed:
    """What became of one loader.

    Attributes:
        name: of the loader.
        executions: inputs that coverage led to, all met as they must be.
        examples: more of them, drawn by hypothesis.

    """

    name: str
    executions: int
    examples: int


def guided(loader: Loader, seconds: int, folder: Path) -> int:
    """Executions in a process of its own.

    Raises:
        AssertionError: an input ended otherwise than it must; says how, and where the bytes are.

    """
    program = [sys.executable, "-m", "tests.reliability.fuzz.guided"]
    command = [*program, loader.name, str(seconds), str(folder), loader.code]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    if done.returncode:
        FOUND.mkdir(parents=True, exist_ok=True)
        kept = [str(shutil.copy(file, FOUND)) for file in folder.glob("found-*")]
        how = said[max(0, said.find("Uncaught Python exception")) :]
        raise AssertionError(f"{loader.name}: {kept}\n{how[:4000]}")
    counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    assert counted, said[-2000:]
    return int(counted[1])


def drawn(loader: Loader, count: int, watch: Watch) -> int:
    """Examples of hypothesis, of bytes and of values; raises what a loader must not."""
    seeds, tried = loader.seeds(), 0
    met(loader, seeds[0], watch.folder)
    within = settings(
        max_examples=count,
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @within
    @given(edits=EDITS)
    def of_bytes(edits: list[tuple[str, int, bytes]]) -> None:
        nonlocal tried
        tried += 1
        accepted(loader, edited(seeds[tried % len(seeds)], edits), watch)

    @within
    @given(changes=CHANGES)
    def of_values(changes: list[tuple[int, object]]) -> None:
        nonlocal tried
        tried += 1
        accepted(loader, changed(seeds[0], changes), watch)

    of_bytes()
    if loader.text:
        of_values()
    return tried
