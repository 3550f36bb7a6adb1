"""Methods by name: all can be imported, and wrong options are refused with advice."""

import pytest

from quantbench.errors import BadInput
from quantbench.quantization.registry import make, method_class, methods


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
