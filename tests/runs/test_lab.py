import numpy as np
import pytest
import torch

from quantbench.errors import BadInput
from quantbench.methods.adaround import AdaRound
from quantbench.methods.nearest import Nearest
from quantbench.quantization.method import Job, Method, quantize
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.runs.lab import FullPrecision, Lab
from tests.helpers.tiny import Tiny

W4 = Scheme(Grid(4))


@pytest.fixture
def tiny():
    return Tiny()


def cell(lab, tiny, method, seed=0, scheme=W4):
    return lab.cell(tiny, method, scheme, "tiny/calib", 8, seed)


def test_a_finished_cell_is_not_run_again(tiny, tmp_path):
    lab = Lab(tmp_path)
    first = lab.result(cell(lab, tiny, Nearest()))
    ran = tiny.evaluations
    again = Lab(tmp_path)
    assert again.result(cell(again, tiny, Nearest())) == first
    assert tiny.evaluations == ran == 2  # full precision and quantized
    assert not again.fresh
    assert first.fp_top1 == 100
    assert first.size_bytes > 0
    assert (
        tmp_path / "quantized" / cell(lab, tiny, Nearest()).key() / "quantized.safetensors"
    ).exists()


def test_calibration_does_not_depend_on_the_method(tiny, tmp_path):
    lab, seen = Lab(tmp_path), []
    original = tiny.calibration
    tiny.calibration = lambda *a: seen.append(a) or original(*a)
    for method in (Nearest(), AdaRound(iterations=2)):
        lab.result(cell(lab, tiny, method))
    lab.result(cell(lab, tiny, Nearest(), seed=1))
    assert seen[0] == seen[1] != seen[2]


def test_failures_are_not_results(tiny, tmp_path):
    lab = Lab(tmp_path)
    tiny.x = torch.full_like(tiny.x, torch.nan)
    with pytest.raises(BadInput, match="NaN"):
        lab.result(cell(lab, tiny, Nearest()))
    assert [s.result.metric for s in lab.ledger.stored()] == ["top1"]  # full precision alone
    assert "not finished" in lab.ledger.why(cell(lab, tiny, Nearest()))


class Killed(Exception):
    """Stands for kill -9."""


def test_an_interrupted_cell_goes_on_layer_by_layer(tiny, tmp_path):
    method, done = AdaRound(iterations=5), []

    def progress(_, __, what):
        done.append(what)
        if len(done) == 6:
            raise Killed

    lab = Lab(tmp_path, progress=progress)
    with pytest.raises(Killed):
        lab.result(cell(lab, tiny, method))
    resumed = Lab(tmp_path).result(cell(lab, tiny, method))
    whole = Lab(tmp_path / "other").result(cell(lab, tiny, method))
    assert resumed.digest == whole.digest
    assert np.array_equal(resumed.scores, whole.scores)
    untouched = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir() if p.suffix == ".json"
    }
    assert len(untouched) == 2


def test_why_names_the_changed_option(tiny, tmp_path):
    lab = Lab(tmp_path)
    lab.result(cell(lab, tiny, AdaRound(iterations=2)))
    why = lab.ledger.why(cell(lab, tiny, AdaRound(iterations=3)))
    assert "method.iterations: 2 -> 3" in why


def test_full_precision_has_no_scheme(tiny, tmp_path):
    lab = Lab(tmp_path)
    found = lab.result(lab.cell(tiny, FullPrecision(), None, "", 0, 0))
    assert found.drop == 0


def test_unfinished_methods_are_named(tiny):
    class Lazy(Method):
        name = "lazy"

        def apply(self, job: Job) -> Job:
            return job.done(job.start())

    q = quantize(Lazy(), tiny.net, tiny.x, W4)
    with pytest.raises(BadInput, match="did not finish"):
        q.fake()
