"""The exit codes of ``quantbench run``, on finished cells whose scores are made to order."""

import json
import subprocess
import sys

import numpy as np
import pytest

from quantbench.claims.catalog import read_claims
from quantbench.cli.bench import BROKEN, CLEAN, MISSED, UNDECIDED
from quantbench.evidence.result import Latency, Result
from quantbench.runs.lab import Lab
from quantbench.runs.timing import BACKENDS, BATCHES
from quantbench.system.machine import fingerprint

LIMIT, BEATS = (
    next(
        c
        for c in read_claims("adaround")
        if (c.kind, c.model, c.tier) == (kind, "shapes/resnet8", "embedded") and c.gates
    )
    for kind in ("max_drop", "beats")
)


def finish(lab, claim, lost, n=1000):
    """All cells of a claim: of as many of the images lost, by ours and by the rival's."""
    full = np.ones(n, bool)
    latency = tuple(
        Latency(backend, batch, fingerprint(), (1.0,), (3.0,))
        for backend in BACKENDS
        for batch in BATCHES
    )
    for cells, gone in zip(lab.cells(claim), lost, strict=True):
        for cell in cells.values():
            scores = np.arange(n) >= gone
            result = Result.of(full, scores, "digest", size_bytes=1, latency=latency)
            lab.ledger.put(cell, result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "beats", "code"),
    [
        (0.0, (0, 200), CLEAN),
        (1.0, (0, 200), UNDECIDED),
        (1.0, (0, 0), MISSED),  # a miss is not hidden by what is undecided
        (9.0, (0, 200), MISSED),
    ],
)
def test_a_run_ends_with_what_its_verdicts_say(tmp_path, limit, beats, code):
    """The limit's drop is given in units of the limit."""
    lab = Lab(tmp_path / "runs")
    finish(lab, LIMIT, (round(10 * limit * (LIMIT.value + LIMIT.tol)), 0))
    finish(lab, BEATS, beats)
    ran = quantbench(tmp_path, f"{LIMIT.id} or {BEATS.id}")
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert ("1 undecided" in ran.stdout.splitlines()[-1]) == (limit == 1.0)


@pytest.mark.slow
def test_what_could_not_be_judged_is_no_miss(tmp_path):
    """A rival that was measured on other images, as by a run on other data."""
    lab = Lab(tmp_path / "runs")
    finish(lab, BEATS, (0, 200))
    _, rivals = lab.cells(BEATS)
    half = np.ones(500, bool)
    for cell in rivals.values():
        lab.ledger.put(cell, Result.of(half, half, "digest"))
    ran = quantbench(tmp_path, BEATS.id)
    assert ran.returncode == BROKEN, ran.stdout + ran.stderr
    assert "a rival runs on the same examples" in ran.stdout


@pytest.mark.parametrize("words", [["run", "-k", "no-such-claim"], ["run", "no-such-paper"]])
def test_bad_input_is_no_miss(words):
    from quantbench.cli.main import main

    assert main(words) == BROKEN


def quantbench(folder, expression):
    """The command in a process of its own, since pytest does not run within itself."""
    runs = folder / "runs"
    (runs / "mlflow.db").touch()  # everything is uploaded
    uploaded = {s.key: s.digest for s in Lab(runs).ledger.stored()}
    (runs / "mlflow.uploaded.json").write_text(json.dumps(uploaded))
    words = ["run", "adaround", "-k", expression, "--runs", str(runs)]
    command = [sys.executable, "-m", "quantbench", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)
