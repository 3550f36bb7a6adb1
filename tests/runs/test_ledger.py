"""The ledger: resume, damage, kill -9, full disks, two runs at once, and why."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from quantbench.errors import BadInput, QuantbenchError
from quantbench.evidence.result import Result
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.runs.cell import Cell
from quantbench.runs.ledger import Ledger
from quantbench.system.atomic import write_atomically


@dataclass(frozen=True)
class Toy:
    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    iterations: int = 100


CELL = Cell(
    Toy(),
    Scheme(Grid(4)),
    "shapes/resnet8",
    "c0",
    "shapes/calib",
    256,
    "d0",
    "shapes/test",
    "e0",
    0,
)
RESULT = Result.of(
    np.array([1, 1, 0, 1] * 9, bool),
    np.array([1, 0, 0, 1] * 9, bool),
    "digest",
    curves={"fc": (2.0, 1.0)},
)


@pytest.fixture
def said():
    return []


@pytest.fixture
def ledger(tmp_path, said):
    return Ledger(tmp_path / "runs" / "cells", said.append)


def test_a_result_comes_back_as_it_was(ledger):
    assert ledger.get(CELL) is None
    path = ledger.put(CELL, RESULT)
    assert path == ledger.folder / f"{CELL.key()}.json"
    assert ledger.get(CELL) == RESULT
    assert ledger.get(replace(CELL, seed=1)) is None
    (stored,) = ledger.stored()
    assert (stored.key, stored.id, stored.result, stored.fields) == (
        CELL.key(),
        CELL.id,
        RESULT,
        CELL.key_fields(),
    )
    assert {"at", "machine", "kind", "commit"} == set(stored.made)
    assert ledger.find(CELL) == stored


def test_a_failed_run_is_not_stored(ledger):
    with pytest.raises(BadInput, match="NaN or infinity"):
        ledger.put(CELL, replace(RESULT, seconds={"tuning": float("nan")}))
    assert list(ledger.stored()) == []


def flip_one_bit(raw):
    """Another score, in JSON that still parses and still looks right."""
    return raw.replace(json.loads(raw)["result"]["quantized"].encode(), b"mJmZmZA=", 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-20],
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"null",
        lambda _: b"\xff\xfe\x00",
        lambda raw: raw.replace(b'"n": 36', b'"n": 35'),
        lambda raw: raw.replace(b'"seed": 0', b'"seed": 1'),
        flip_one_bit,
    ],
)
def test_a_damaged_file_is_reported_moved_aside_and_run_again(ledger, said, damage):
    path = ledger.put(CELL, RESULT)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    assert ledger.get(CELL) is None
    assert "damaged" in said[0]
    assert "will run again" in said[0]
    assert not path.exists()
    assert (ledger.folder / "damaged" / path.name).read_bytes() == damage(whole)
    ledger.put(CELL, RESULT)
    assert ledger.get(CELL) == RESULT
    assert len(said) == 1


def test_a_file_under_another_cells_name_is_not_trusted(ledger, said):
    other = replace(CELL, seed=1)
    ledger.put(CELL, RESULT).rename(ledger.path(other.key()))
    assert ledger.get(other) is None
    assert said


RUN = """
import sys
from pathlib import Path
from test_ledger import CELL, RESULT, Ledger, replace
ledger = Ledger(Path(sys.argv[1]))
with ledger.lock():
    print("locked", flush=True)
    for seed in range(100_000):
        ledger.put(replace(CELL, seed=seed), RESULT)
"""


@pytest.fixture
def another_run(ledger):
    """Another process that has the lock and writes cells as fast as it can."""
    env = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120 - a string is wanted
    with subprocess.Popen(
        [sys.executable, "-c", RUN, ledger.folder], stdout=subprocess.PIPE, text=True, env=env
    ) as run:
        assert run.stdout.readline() == "locked\n"
        yield run
        run.kill()


def test_kill_9_leaves_only_whole_cells_and_frees_the_lock(ledger, said, another_run):
    while len(list(ledger.folder.glob("*.json"))) < 5:
        time.sleep(0.01)
    another_run.send_signal(signal.SIGKILL)
    another_run.wait()
    # what a kill in the middle of a write leaves
    (ledger.folder / ".abc.json.1.tmp").write_text("{")
    finished = list(ledger.folder.glob("*.json"))
    with ledger.lock():
        assert len(list(ledger.stored())) == len(finished) >= 5
        assert all(s.result == RESULT for s in ledger.stored())
        assert CELL.id in {s.id for s in ledger.stored()}
    assert said == []
    assert list(ledger.folder.glob("*.tmp")) == list(ledger.folder.glob(".*.tmp")) == []


def test_two_runs_at_once_are_refused_by_process_id(ledger, another_run):
    with (
        pytest.raises(QuantbenchError, match=f"another run .process {another_run.pid}, since"),
        ledger.lock(),
    ):
        pytest.fail("two runs had the lock")


def test_a_file_too_large_for_the_disk_loses_nothing(tmp_path):
    """The limit on file sizes stands in for a full disk: the system refuses a write half-way."""
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    code = (
        "import resource, sys; from pathlib import Path; "
        "from quantbench.system.atomic import write_atomically;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "write_atomically(Path(sys.argv[1]), 'y' * 200_000)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "File too large. Nothing that was stored is lost" in run.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quantbench.system.atomic.os.fsync", full)
    with pytest.raises(QuantbenchError, match="No space left on device"):
        write_atomically(tmp_path / "x", "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_stops_at_a_full_disk_and_says_so(tmp_path):
    """As above, with a whole run: the first layer that cannot be kept ends it."""
    code = (
        "import resource, sys; from quantbench.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "sys.exit(main(['run', 'adaround', '-k', 'shapes and resnet8 and w8a8', "
        "'--runs', sys.argv[1]]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "File too large. Nothing that was stored is lost" in run.stdout
    assert "Interrupted: results cannot be kept" in run.stdout
    assert "Traceback" not in run.stdout


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(QuantbenchError, match="runs"):
        Ledger(tmp_path / "runs").put(CELL, RESULT)
    with pytest.raises(QuantbenchError, match="choose a folder"), Ledger(tmp_path / "runs").lock():
        pytest.fail("there is no such folder")


def test_why_names_the_fields_that_differ_from_the_nearest_cell(ledger):
    ledger.put(replace(CELL, method=Toy(5), seed=3, calib_n=7), RESULT)
    ledger.put(replace(CELL, method=Toy(200)), RESULT)
    why = ledger.why(CELL)
    assert "method.iterations: 200 -> 100" in why
    assert "seed" not in why
    ledger.put(CELL, RESULT)
    assert "is finished" in ledger.why(CELL)


def test_why_names_the_source_file_that_changed(ledger, monkeypatch):
    ledger.put(CELL, RESULT)
    hashes = CELL.key_fields()["source"]
    monkeypatch.setattr(
        "quantbench.runs.cell.source_hashes",
        lambda _: {**hashes, "quantbench.quantization.scheme": "new"},
    )
    assert (
        f"source.quantbench.quantization.scheme: {hashes['quantbench.quantization.scheme']} -> new"
        in ledger.why(replace(CELL))
    )


def test_why_says_when_nothing_is_near(ledger):
    assert "no run of toy on shapes/resnet8 is stored" in ledger.why(CELL)
