"""AdaRound's figure 3 from what runs have written down."""

import pytest

from quantbench.methods.adaround import AdaRound
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.small import small


def test_adaround_keeps_h_of_every_layer():
    net, x = small()
    log = Log()
    quantize(AdaRound(iterations=150, lr=0.05), net, x, Scheme(Grid(3)), log=log)
    for info in net.layers:
        before, after = (log.curves[f"h/{when}/{info.name}"] for when in ("before", "after"))
        assert len(before) == len(after) == min(100, info.params)
        assert sum(0.05 < v < 0.95 for v in before) > sum(0.05 < v < 0.95 for v in after)
    log = Log()
    quantize(AdaRound(iterations=2, relaxation="ste"), net, x, Scheme(Grid(3)), log=log)
    assert not any(name.startswith("h/") for name in log.curves)


@pytest.mark.parametrize("relaxation", ["sigmoid", "temperature"])
def test_other_relaxations_have_an_h_too(relaxation):
    net, x = small()
    log = Log()
    quantize(AdaRound(iterations=2, relaxation=relaxation), net, x, Scheme(Grid(3)), log=log)
    assert all(0 <= v <= 1 for k, c in log.curves.items() if k.startswith("h/") for v in c)
