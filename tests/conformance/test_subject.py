"""What is checked: methods with little work, in pipelines that quantize, on tiny networks."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from quantbench.conformance.families import FAMILIES, calibration_set, tiny_network
from quantbench.conformance.subject import AMOUNTS, complete, quick
from quantbench.errors import BadInput
from quantbench.methods.adaround import AdaRound
from quantbench.methods.allocation import Allocate
from quantbench.methods.nearest import Nearest
from quantbench.quantization.method import Method, Pipeline
from quantbench.quantization.registry import list_methods, make


@dataclass(frozen=True)
class Rounds(Method):
    """Counts its work in a way of its own."""

    name: ClassVar[str] = "rounds"
    quick: ClassVar[dict[str, int]] = {"rounds": 2}
    rounds: int = 1000
    iterations: int = 1000

    def apply(self, _):
        """Fail."""
        raise RuntimeError


def test_work_is_lowered_by_the_names_of_fields_never_raised():
    method = quick(AdaRound(lr=0.5))
    assert method == AdaRound(lr=0.5, iterations=AMOUNTS["iterations"])
    assert quick(AdaRound(iterations=1)).iterations == 1


def test_a_method_says_itself_what_is_quick():
    assert quick(Rounds()) == Rounds(rounds=2)


def test_a_misspelt_field_is_told():
    @dataclass(frozen=True)
    class Misspelt(Rounds):
        """Says it wrongly."""

        quick: ClassVar[dict[str, int]] = {"round": 2}

    with pytest.raises(BadInput, match=r"rounds.quick has 'round', no field; did you mean rounds"):
        quick(Misspelt())


def test_steps_and_methods_in_fields_are_quick_too():
    assert quick(Pipeline((AdaRound(), Nearest()))).steps[0].iterations == AMOUNTS["iterations"]
    allocate = quick(Allocate(rounding=AdaRound()))
    assert allocate.rounding.iterations == AMOUNTS["iterations"]


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("ibc", ["nearest", "ibc"]),
        ("equalize", ["equalize", "nearest"]),
        ("distill", ["distill", "nearest"]),
        ("brecq-mixed", ["brecq-mixed", "nearest"]),
    ],
)
def test_a_part_of_a_pipeline_is_completed(name, steps):
    assert [step.name for step in complete(quick(make(name))).steps] == steps


def test_what_quantizes_or_fails_stays_as_it_is():
    assert complete(Nearest()) == Nearest()
    assert complete(Rounds()) == Rounds()


def test_fields_that_say_how_much_are_small_in_every_method():
    """A field of this repository's methods that begins in the thousands is known by its name."""
    for name in list_methods():
        for key, value in vars(quick(make(name))).items():
            assert type(value) is not int or value <= 200, (name, key)


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_are_new_tiny_and_the_same(family):
    (net, calib), (again, _) = tiny_network(family), tiny_network(family)
    assert net.model is not again.model
    assert net.digest == again.digest
    assert sum(layer.params for layer in net.layers) < 2500
    assert all(torch.equal(a, b) for a, b in zip(calib, calibration_set(family), strict=True))
    assert net.blocks
