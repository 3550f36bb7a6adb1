from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from quantbench.conformance import check, failures
from quantbench.errors import BadInput
from quantbench.methods.adaround import AdaRound
from quantbench.methods.nearest import Nearest
from quantbench.quantization.method import Method, Pipeline
from quantbench.quantization.registry import make, method_class, methods


@pytest.mark.parametrize(
    "method", [Nearest(), AdaRound(iterations=3), Pipeline((Nearest(),))], ids=lambda m: m.name
)
def test_methods_conform(method):
    check(method)


@dataclass(frozen=True)
class Noisy(Method):
    """Draws from the global generator."""

    name: ClassVar[str] = "noisy"

    def apply(self, job):
        """Round at random."""
        q = Nearest().apply(job).need()
        for layer in q.layers():
            flips = torch.rand(layer.codes.shape) < 0.1
            layer.set_codes(
                (layer.codes - flips.int()).clamp(layer.qparams.levels[0]).float(), layer.qparams
            )
        return job.done(q)


def test_the_global_generator_is_caught():
    found = list(failures(Noisy()))
    assert any("same seed" in f for f in found)
    assert any("global generator" in f for f in found)


def test_every_registered_method_is_importable():
    for name in methods():
        assert method_class(name).__doc__


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adarond", {}, "did you mean adaround"),
        ("adaround", {"iteration": 3}, "did you mean iterations"),
        ("adaround", {"iterations": "many"}, "should be a int"),
        ("adaround", {"relu": 1}, "should be a bool"),
        ("nearest+adaround", {"nearest.lr": 1.0}, "no option 'lr'"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(BadInput, match=message):
        make(name, options)


def test_pipelines_route_options():
    pipeline = make("nearest+adaround", {"iterations": 7})
    assert pipeline.steps[1].iterations == 7
