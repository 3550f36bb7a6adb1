"""What only several processes show: equal bits, and that nothing is lost to kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(folder, seeds):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.tiny", str(folder), str(seeds)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_runs_lose_nothing_and_processes_agree(tmp_path):
    with start(tmp_path / "a", 50) as killed:
        first = killed.stdout.readline()
        killed.send_signal(signal.SIGKILL)
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "a" / "cells").glob("*.json")}
    assert first
    assert len(finished) >= 2  # full precision and the first seed
    again, other = start(tmp_path / "a", 2), start(tmp_path / "b", 2)
    digests, fresh = (p.communicate(timeout=120)[0].split() for p in (again, other))
    assert (again.returncode, other.returncode) == (0, 0)
    assert digests == fresh  # resumed or not, in this process or that one
    assert digests[0] == first.strip()
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
