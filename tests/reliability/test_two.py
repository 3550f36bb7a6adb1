"""Two processes at once: on a ledger, on a baseline, on an MLflow store."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from quantbench.gate.baseline import Baseline
from quantbench.runs.ledger import Ledger
from tests.helpers.records import cell, result

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys
from pathlib import Path
from tests.helpers.records import cell, result
from quantbench.runs.ledger import Ledger
for round in range(100_000):
    Ledger(Path(sys.argv[1])).put(cell(seed=round % 50), result(lost=round % 7))
    print(round, flush=True)
"""

# reads the baseline, and writes it only when another one has read it too, or waits for its turn
ACCEPT = """
import sys, time
from pathlib import Path
from quantbench.gate.accept import Reason, accept_cells
from quantbench.gate.baseline import Baseline
from quantbench.runs.alone import alone
from tests.helpers.records import cell, records, result
path, seed = Path(sys.argv[1]), int(sys.argv[2])
runs = records(path.parent / f"runs{seed}", (cell(seed=seed), result()))
print("ready", flush=True)
sys.stdin.readline()
with alone(str(path)):
    before = Baseline.read(path)
    time.sleep(0.5)
    accept_cells(before, runs, Reason("both", lower=False, date="2026-11-30")).write(path)
"""

UPLOAD = """
import sys
from pathlib import Path
from quantbench.report.server.upload import Server
from quantbench.runs.ledger import Ledger
runs = Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
found = Server(sys.argv[1], runs).upload([("paper", c) for c in Ledger(runs / "cells").stored()])
print("new", found.new)
"""


def started(code, folder, *words):
    env = {**os.environ, "QUANTBENCH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=env, **pipes)


def both(processes):
    """Let two begin together, and return what they said."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said


def test_a_reader_sees_whole_cells_while_another_process_writes_them(tmp_path):
    folder, damaged = tmp_path / "cells", []
    writer = started(WRITER, tmp_path, folder)
    try:
        while int(writer.stdout.readline()) < 60:
            pass
        for _ in range(20):
            assert len(list(Ledger(folder, damaged.append).stored())) == 50
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert damaged == []


@pytest.mark.slow
def test_two_accepts_at_once_lose_neither(tmp_path):
    path = tmp_path / "baseline.json"
    both([started(ACCEPT, tmp_path, path, seed) for seed in (1, 2)])
    assert set(Baseline.read(path).cells) == {cell(seed=seed).id for seed in (1, 2)}


@pytest.mark.slow
def test_two_uploads_at_once_make_one_run_of_each_cell(tmp_path):
    from mlflow import MlflowClient

    for seed in (1, 2):
        Ledger(tmp_path / "cells").put(replace(cell(), seed=seed), result())
    uri = f"sqlite:///{tmp_path / 'store.db'}"
    said = both([started(UPLOAD, tmp_path, uri, tmp_path) for _ in range(2)])
    assert sorted(text.splitlines()[-1] for text in said) == ["new 0", "new 2"]
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("quantbench/paper")
    assert len(client.search_runs([experiment.experiment_id])) == 2
