"""Every check catches a fault that is planted for it: rounding to nearest, and one thing wrong."""

import itertools
import random
import re
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch

from quantbench.conformance import check, failures, results, runs
from quantbench.conformance.integers import lowers_exactly
from quantbench.conformance.observation import Case, observe
from quantbench.errors import Unsupported
from quantbench.integer import oracle
from quantbench.integer.ir import AvgPool
from quantbench.methods.nearest import Nearest
from quantbench.quantization.grids import QParams
from quantbench.quantization.method import Method

COUNTER = itertools.count()


saves_and_loads, resumes = results.saves_and_loads, runs.resumes


def rounded(job):
    return Nearest().apply(job).need()


def planted(fault):
    """A method that rounds to nearest, then does to the job and the result what ``fault`` says."""

    @dataclass(frozen=True)
    class Planted(Method):
        """Rounding to nearest with a fault."""

        name: ClassVar[str] = "planted"

        def apply(self, job):
            q = rounded(job)
            fault(job, q)
            return job.done(q)

    return Planted()


def first(q):
    return next(q.layers())


def counts(_, q):
    first(q).bias.data += next(COUNTER)


def draws_torch(*_):
    torch.rand(1)


def draws_numpy(*_):
    np.random.rand()  # noqa: NPY002 - the fault


def draws_random(*_):
    random.random()


def changes_a_weight(job, _):
    next(job.net.model.parameters()).data += 1


def changes_a_buffer(job, _):
    next(job.net.unfolded.buffers()).add_(1)


def changes_batch_norm(job, _):
    next(iter(job.net.batch_norm.values())).mean.add_(1)


def changes_the_data(job, _):
    job.calib[0].mul_(2)


def leaves_a_hook(job, _):
    job.net.model.register_forward_hook(lambda _m, _x, y: y + 1)


def leaves_the_grid(_, q):
    layer = first(q)
    layer.set_codes(layer.codes.float() + 100, layer.qparams)


def takes_more_bits(_, q):
    layer = first(q)
    qp = layer.qparams
    layer.set_codes(layer.codes.float(), QParams(qp.scale, qp.zero, tuple(range(-999, 999))))


def takes_more_bits_for_activations(_, q):
    for act in q.act_quants().values():
        act.set(QParams(act.scale, act.zero, tuple(range(999))))


def turns_the_scale_around(_, q):
    layer = first(q)
    qp = layer.qparams
    layer.set_codes(layer.codes.float(), QParams(-qp.scale, qp.zero, qp.levels))


def keeps_other_weights(_, q):
    first(q).weight = first(q).weight * 1.01


def leaves_activations(_, q):
    for act in q.act_quants().values():
        act.enabled, act.levels = False, ()


def leaves_a_layer(_, q):
    first(q).codes = None


def overflows(_, q):
    *_, last = q.layers()
    last.bias.data += float("nan")


def computes_something_else(_, q):
    q.model.register_forward_hook(lambda _m, _x, y: 2 * y)


def depends_on_scratch(job, q):
    first(q).bias.data += float(job.scratch is not None)


def goes_by_leftovers(job, q):
    if job.scratch:
        job.scratch.mkdir(parents=True, exist_ok=True)
        first(q).bias.data += len(list(job.scratch.iterdir()))
        (job.scratch / "left").touch()


FAULTS = [
    (results.repeats, counts, "the same seed must give the same bits on the residual network"),
    (results.generators_untouched, draws_torch, "the global generator of torch"),
    (results.generators_untouched, draws_numpy, "the global generator of numpy"),
    (results.generators_untouched, draws_random, "the global generator of random"),
    (results.network_unchanged, changes_a_weight, "must not change job.net.model"),
    (results.network_unchanged, changes_a_buffer, "must not change job.net.unfolded"),
    (results.network_unchanged, changes_batch_norm, "must not change job.net.batch_norm"),
    (results.network_unchanged, changes_the_data, "must not change job.calib"),
    (results.network_unchanged, leaves_a_hook, "must not change what job.net.model computes"),
    (results.on_grid, leaves_the_grid, "codes outside the levels of layer 0 "),
    (results.on_grid, takes_more_bits, "gave layer 0 more than 8 bits"),
    (results.on_grid, takes_more_bits_for_activations, "activation quantizer .* more than 8 bits"),
    (results.on_grid, turns_the_scale_around, "a scale that is not positive"),
    (results.on_grid, keeps_other_weights, "weights that its codes do not stand for"),
    (results.on_grid, leaves_activations, "without a range"),
    (results.works_or_says_why, leaves_a_layer, "left layers without codes .*: 0"),
    (results.works_or_says_why, overflows, "NaN or infinite"),
    (saves_and_loads, computes_something_else, "other outputs after save and load"),
    (saves_and_loads, leaves_the_grid, "cannot be saved and loaded"),
    (resumes, depends_on_scratch, "other bits when it is given a scratch folder"),
    (resumes, goes_by_leftovers, "a second run in the scratch folder of a finished one"),
    (lowers_exactly, leaves_activations, "cannot be lowered on the residual network under integer"),
]


@pytest.mark.parametrize(("one", "fault", "told"), FAULTS, ids=[f[1].__name__ for f in FAULTS])
def test_a_planted_fault_is_caught(one, fault, told, tmp_path):
    """By the check that is for it, which finds nothing where there is none."""
    files = (tmp_path,) if one in (saves_and_loads, resumes) else ()
    assert list(one(observe(Case(Nearest(), "residual", "integer")), *files)) == []
    found = one(observe(Case(planted(fault), "residual", "integer")), *files)
    assert re.search(told, "\n".join(found))


def test_without_a_fault_nothing_is_found():
    check(planted(lambda *_: None))


def test_the_first_fault_is_raised_with_the_method_s_name():
    with pytest.raises(AssertionError, match=r"^planted: "):
        check(planted(draws_torch))


@dataclass(frozen=True)
class Forgetful(Method):
    """Noise on every layer; finished layers are kept, where the generator was is not."""

    name: ClassVar[str] = "forgetful"
    restores: bool = False

    def apply(self, job):
        """Layer by layer, each kept in a file with the state behind it."""
        q = rounded(job)
        for i, layer in enumerate(q.layers()):
            job.progress(i, len(q.infos), layer.info.name)
            path = job.scratch and job.scratch / f"{i}.pt"
            if path and path.exists():
                noise, state = torch.load(path)
                if self.restores:
                    job.rng.set_state(state)
            else:
                noise = torch.rand(layer.bias.shape, generator=job.rng)
                if path:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    torch.save((noise, job.rng.get_state()), path)
            layer.bias.data += noise
        return job.done(q)


def test_a_generator_that_does_not_resume_is_caught():
    check(Forgetful(restores=True))
    found = "\n".join(failures(Forgetful()))
    assert "stopped at report 4 of 7, goes on to other bits" in found
    assert "goes on from part of its finished steps to other bits" in found


@dataclass(frozen=True)
class Particular(Method):
    """Works on some networks and schemes, and says badly why not on others."""

    name: ClassVar[str] = "particular"
    reason: str = "no"

    def unsupported(self, _, scheme):
        """Too short a reason."""
        return self.reason if scheme.acts is None else None

    def apply(self, job):
        """Round, where layers are convolutions and all are quantized."""
        if job.scheme.which == "first":
            raise KeyError("second layer")
        if job.net.layers[0].kind != "conv":
            raise TypeError("images only")
        return job.done(rounded(job))


def test_refusals_without_a_sentence_and_other_errors_are_caught():
    found = "\n".join(failures(Particular()))
    assert "refuses on the residual network under w4 with 'no'" in found
    assert "refuses a scheme of powers of two on the residual network with 'no'" in found
    assert (
        "for a scheme of the first layer alone on the residual network it raises KeyError" in found
    )
    told = "\n".join(failures(Particular("it needs bits for activations")))
    assert "refuses" not in told


def test_a_family_that_a_method_does_not_know_is_caught():
    found = list(failures(Particular(), ("transformer",)))
    assert any("on the transformer network under w4a8 it raises TypeError" in f for f in found)


@dataclass(frozen=True)
class Nothing(Method):
    """Refuses everything."""

    name: ClassVar[str] = "nothing"

    def apply(self, _):
        """Always with a reason."""
        raise Unsupported("this method is for networks of the future")

    def unsupported(self, *_):
        """The same."""
        return "this method is for networks of the future"


def test_a_method_that_refuses_everything_is_caught():
    assert list(failures(Nothing())) == []
    with pytest.raises(AssertionError, match="nothing: supports none of the schemes w4, w4a8"):
        check(Nothing())


def test_what_another_process_cannot_run_is_told():
    seen = {"residual/w4": observe(Case(Nearest(), "residual", "w4"))}
    (found,) = runs.same_elsewhere("nearst", seen)
    assert "does not run in another process" in found
    assert "did you mean nearest" in found


def test_executors_that_differ_are_caught(monkeypatch):
    pool = oracle.APPLY[AvgPool]
    monkeypatch.setitem(oracle.APPLY, AvgPool, lambda *args: pool(*args) ^ 1)
    found = "\n".join(lowers_exactly(observe(Case(Nearest(), "residual", "integer"))))
    assert "the simulation differs from the oracle in" in found
    assert "the native differs from the oracle in" in found


@dataclass
class Mutable(Nearest.__base__):
    """Can be changed."""

    name: ClassVar[str] = "mutable"
    lr: float = 0.1

    def apply(self, job):
        """Round."""
        return job.done(rounded(job))


@dataclass(frozen=True)
class Unhashable(Method):
    """A list is no value."""

    name: ClassVar[str] = "unhashable"
    bits: list[int] = field(default_factory=list)

    def apply(self, job):
        """Round."""
        return job.done(rounded(job))


@dataclass(frozen=True)
class Undocumented(Method):
    name: ClassVar[str] = "undocumented"

    def apply(self, job):
        return job.done(rounded(job))


class Plain(Method):
    """No dataclass."""

    name: ClassVar[str] = "plain"

    def apply(self, job):
        """Round."""
        return job.done(rounded(job))


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (Mutable(), "must be frozen"),
        (Unhashable(), "must be hashable"),
        (Undocumented(), "needs a docstring"),
        (Plain(), "must be a dataclass"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_no_value_is_caught(method, told):
    assert any(told in found for found in failures(method))
