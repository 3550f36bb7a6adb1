"""Steps that are kept on disk: the same bits after an interruption, and for no other run."""

from dataclasses import replace

import pytest
import torch

from quantbench.methods.adaround import AdaRound
from quantbench.methods.brecq import BRECQ
from quantbench.optimization import step_in_progress
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.quantization.method import Job, Log, quantize
from quantbench.system import state_file
from tests.helpers.methods import METHODS, W3, W3A4, every_method
from tests.helpers.small import small


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@every_method
def test_an_interrupted_run_goes_on_to_the_same_bits_and_log(method, scheme, tmp_path):
    net, x = small()
    whole_log = Log()
    whole = quantize(method, net, x, scheme, seed=3, log=whole_log, scratch=tmp_path / "whole")
    (steps,) = (tmp_path / "whole").iterdir()
    finished = sorted(steps.iterdir(), key=lambda p: p.stat().st_mtime_ns)
    assert len(finished) >= 4
    # what a kill after so many steps leaves, and half of the next one
    for keep in (1, len(finished) - 1):
        scratch = tmp_path / f"kept-{keep}"
        folder = scratch / steps.name
        folder.mkdir(parents=True)
        for path in finished[:keep]:
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / finished[keep].name).write_bytes(finished[keep].read_bytes()[:100])
        log = Log()
        assert (
            quantize(method, net, x, scheme, seed=3, log=log, scratch=scratch).digest
            == whole.digest
        )
        assert (log.numbers, log.curves) == (whole_log.numbers, whole_log.curves)
        assert min(log.seconds.values()) > 0


class Stop(Exception):
    """What a kill does."""


@pytest.mark.parametrize("name", ["adaround", "brecq", "qdrop"])
@pytest.mark.parametrize("at", [7, 20, 31])
def test_an_interrupted_run_goes_on_in_the_middle_of_a_step(name, at, tmp_path, monkeypatch):
    method, scheme = METHODS[name]
    net, x = small()
    whole_log = Log()
    whole = quantize(method, net, x, scheme, seed=3, log=whole_log)
    monkeypatch.setattr(step_in_progress, "EVERY", 0.0)
    told = []

    def progress(*_):
        told.append(0)
        if len(told) == at:
            raise Stop

    with pytest.raises(Stop):
        quantize(method, net, x, scheme, seed=3, progress=progress, scratch=tmp_path)
    (part,) = tmp_path.glob("*/*.part")
    assert state_file.read(part)["seconds"].keys() == {"reconstruct", "reconstruct_cpu"}
    steps, log = [], Log()
    found = quantize(
        method,
        net,
        x,
        scheme,
        seed=3,
        log=log,
        progress=lambda *_: steps.append(0),
        scratch=tmp_path,
    )
    assert found.digest == whole.digest
    assert (log.numbers, log.curves) == (whole_log.numbers, whole_log.curves)
    assert not list(tmp_path.glob("*/*.part"))


def test_a_damaged_state_is_begun_again(tmp_path):
    method, scheme = METHODS["adaround"]
    net, x = small()
    whole = quantize(method, net, x, scheme, scratch=tmp_path / "whole")
    (steps,) = (tmp_path / "whole").iterdir()
    part = tmp_path / "kept" / steps.name / "stem.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half a file")
    assert quantize(method, net, x, scheme, scratch=tmp_path / "kept").digest == whole.digest


def test_kept_starts_are_not_rounded_to_bfloat16(tmp_path):
    net, x = small(blocks=())
    method = BRECQ(iterations=6, act_iterations=2, loss="mse", granularity="layer", bfloat16=True)
    whole = quantize(method, net, x, W3A4, scratch=tmp_path / "whole")
    (steps,) = (tmp_path / "whole").iterdir()
    for path in sorted(steps.iterdir(), key=lambda p: p.stat().st_mtime_ns)[:3]:
        (tmp_path / "kept" / steps.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "kept" / steps.name / path.name).write_bytes(path.read_bytes())
    assert quantize(method, net, x, W3A4, scratch=tmp_path / "kept").digest == whole.digest


def test_a_finished_step_keeps_its_seconds(tmp_path):
    net, x = small()
    job = Job(net, (x,), W3, rng(), scratch=tmp_path)
    resume = FinishedSteps(job, AdaRound())
    job.log.numbers["objective/a"] = 0.5
    resume.save("a", {"codes": torch.ones(2)})
    took = job.log.seconds
    assert took.keys() == {"reconstruct", "reconstruct_cpu"}
    again = Job(net, (x,), W3, rng(), scratch=tmp_path)
    found = FinishedSteps(again, AdaRound()).load("a")
    assert found.keys() == {"codes"}
    assert again.log.seconds == took
    assert again.log.numbers == {"objective/a": 0.5}
    assert FinishedSteps(again, AdaRound()).load("b") is None
    resume = FinishedSteps(again, AdaRound())
    again.log.numbers["objective/a"] = 0.25  # the same name at other bits
    resume.save("c", {})
    last = Job(net, (x,), W3, rng(), scratch=tmp_path)
    FinishedSteps(last, AdaRound()).load("c")
    assert last.log.numbers == {"objective/a": 0.25}
    others = replace(again, scheme=W3A4), replace(again, calib=(x + 1,)), replace(again, rng=rng(1))
    assert [FinishedSteps(other, AdaRound()).load("a") for other in others] == [None] * 3
    assert FinishedSteps(again, AdaRound(iterations=2)).load("a") is None
