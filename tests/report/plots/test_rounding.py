"""AdaRound's figures 1 and 3 from what runs have written down."""

import pytest

from quantbench.methods.adaround import AdaRound
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.plots import collection, rounding
from tests.helpers.rows import row
from tests.helpers.small import small

H = {"h/before/a": (0.2, 0.6, 0.4), "h/after/a": (0.0, 1.0, 1.0)}


def test_costs_are_drawn_for_many_roundings_only():
    few, many = (row(seeds=n, curves={}, extra={"cost": 3.0}) for n in (9, 10))
    assert list(rounding.all_of([few])) == []
    (plot,) = rounding.all_of([many])
    assert "figure 1" in plot.caption
    assert len(plot.shown[0]) == 10
    assert plot.shown[0][0] == (3.0, many.runs[0].q_top1)
    assert plot.svg().startswith("<svg")


def test_values_before_and_after_are_drawn_once_for_a_method_and_not_as_objectives():
    found = [p.caption for p in collection.all_of([row(curves=H), row(curves=H)])]
    assert sum("figure 3" in caption for caption in found) == 1
    assert not any("reconstruction curves" in caption for caption in found)
    (plot,) = rounding.all_of([row(curves=H)])
    assert plot.shown == ([(0.2, 0.0), (0.6, 1.0), (0.4, 1.0)],)
    assert "33% other than nearest" in plot.svg()
    assert list(rounding.all_of([row(curves={})])) == []


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
