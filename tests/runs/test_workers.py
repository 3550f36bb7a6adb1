"""Cells in several processes leave what one process leaves; nothing that happens to one is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.claims.select import asked_for
from quantbench.cli.main import main
from quantbench.runs import workers
from quantbench.runs.lab import Lab
from quantbench.runs.workers import Errand, errands, finish

SELECTED = "shapes and resnet8 and here-integer-nearest"


def stored(folder):
    return {s.id: s.result.digest for s in Lab(folder).ledger.stored()}


def test_full_precision_comes_first_and_every_cell_once(tmp_path):
    selected = "shapes and resnet8 and (fp or here-integer-nearest or adaround)"
    claims = asked_for((), selected, "embedded")
    first, then = errands(claims, Lab(tmp_path))
    assert [errand.whole for errand in first] == [True]  # one network
    lab = Lab(tmp_path)
    keys = [errand.cell(read_claims(), lab).key() for errand in (*first, *then)]
    wanted = {cell.key() for c in claims for side in lab.cells(c) for cell in side.values()}
    assert len(keys) == len(set(keys))
    assert set(keys) == wanted


def test_claims_that_cannot_run_have_no_errands(tmp_path):
    claims = asked_for((), "fp and imagenet and resnext50")
    assert claims
    assert errands(claims, Lab(tmp_path)) == ([], [])


def test_fewer_than_one_is_refused(tmp_path, capsys):
    assert main(["run", "--workers", "0", "--runs", str(tmp_path), "-k", SELECTED]) == 2
    assert "--workers 0: how many cells run at once" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_leave_the_same_bits_as_one(tmp_path):
    claims = asked_for((), SELECTED)
    told = []
    lab = Lab(tmp_path / "two", progress=lambda done, total, _: told.append((done, total)))
    finish(claims, lab, 2)
    assert told == [(1, 2), (2, 2)]
    here = Lab(tmp_path / "one")
    for errand in (e for wave in errands(claims, here) for e in wave):
        here.result(errand.cell(read_claims(), here))
    assert stored(tmp_path / "two") == stored(tmp_path / "one")
    assert errands(claims, lab) == ([], [])


def test_a_cell_that_crashes_is_left_to_its_claim(tmp_path):
    """Also where the error is none of ours."""
    workers._run(tmp_path, "cpu", Errand("fp/shapes/resnet8/fp/embedded", False, 99))
    assert not stored(tmp_path)


def ends(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_the_rest_to_the_caller(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_run", ends)
    monkeypatch.setattr(workers, "errands", lambda *_: ([Errand("x", False, 0)] * 3, []))
    finish([], Lab(tmp_path), 2)


CALLER = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from quantbench.runs.workers import _begin
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (os.getpid(),))
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(1)
    os._exit(0)
"""


@pytest.mark.slow
def test_workers_end_with_the_caller(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    done = subprocess.run(
        [sys.executable, "caller.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
    )
    worker = int(done.stdout)
    for _ in range(50):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its caller")
