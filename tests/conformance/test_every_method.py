"""Every method of this repository conforms, on every model family."""

import pytest

from quantbench.conformance import failures
from quantbench.conformance.families import FAMILIES
from quantbench.quantization.registry import list_methods, make

OURS = [n for n in list_methods() if make(n).__module__.startswith("quantbench.methods.")]
OTHERS = [family for family in FAMILIES if family != "residual"]


@pytest.mark.parametrize("name", OURS)
def test_on_the_residual_network(name):
    assert list(failures(make(name))) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("name", OURS)
def test_on_every_other_network(name, family):
    assert list(failures(make(name), [family])) == []
