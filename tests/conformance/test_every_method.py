"""Every method of this repository conforms, on every model family."""

import pytest

from quantbench.conformance import failures, works_nowhere
from quantbench.conformance.families import FAMILIES
from quantbench.conformance.observation import Case, observe
from quantbench.conformance.runs import same_elsewhere
from quantbench.conformance.subject import complete, quick, schemes_of
from quantbench.quantization.registry import list_methods, make

OURS = [n for n in list_methods() if make(n).__module__.startswith("quantbench.methods.")]
OTHERS = [family for family in FAMILIES if family != "residual"]


@pytest.mark.parametrize("name", OURS)
def test_on_the_residual_network(name):
    method = make(name)
    assert [*works_nowhere(method), *failures(method)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_another_process_gives_the_same_bits(name):
    """On the residual network; the command looks at every family."""
    whole = complete(quick(make(name)))
    keys = [f"residual/{scheme}" for scheme in schemes_of("residual")]
    seen = {key: observe(Case(whole, *key.split("/"))) for key in keys}
    assert any(one.quantized for one in seen.values())
    assert list(same_elsewhere(name, seen)) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("name", OURS)
def test_on_every_other_network(name, family):
    assert list(failures(make(name), [family])) == []
