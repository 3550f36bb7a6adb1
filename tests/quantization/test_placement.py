"""Placements of the papers' simulations, against their blocks written out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.methods.brecq import BRECQ
from quantbench.methods.nearest import Nearest
from quantbench.methods.qdrop import QDrop
from quantbench.network.hooks import capture_output
from quantbench.network.network import Network
from quantbench.optimization.units import units
from quantbench.quantization import serialize
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Override, Scheme
from tests.helpers.small import small

OUTPUTS = Scheme(
    Grid(3, per_channel=True),
    Grid(2, symmetric=False, range="minmax"),
    placement="outputs",
    first_last_bits=8,
)
SHARED = replace(OUTPUTS, placement="shared")


def bits(q):
    return {name: act.grid.bits for name, act in q.act_quants().items()}


def test_outputs_are_quantized_as_in_brecqs_blocks():
    net, x = small()
    q = quantize(Nearest(), net, x, OUTPUTS)
    m, act = q.fake(), q.act_quants()

    def block(name, x):
        b = m.get_submodule(name)
        y = act[f"{name}.relu_act"].qparams.fake(F.relu(b.a(x)))  # conv1, its function, quantizer
        return act[f"{name}.out_act"].qparams.fake(F.relu(b.b(y) + x))  # conv2 has none

    z = act["relu_act"].qparams.fake(F.relu(m.stem(x)))
    want = m.fc(block("two", block("one", z)).mean((2, 3)))
    assert torch.equal(m(x), want)
    # QDrop: the last quantizer at 8 bits, the first layer's output at the few
    few = {n: 2 for n in act if n != "two.out_act"}
    assert bits(q) == few | {"two.out_act": 8}
    # BRECQ's code: the first layer's output; the last but one goes into an add
    brecq = bits(Quantized(net, replace(OUTPUTS, edge_acts="outputs")))
    assert brecq == dict.fromkeys(act, 2) | {"relu_act": 8}


def test_shared_quantizers_are_behind_what_layers_read():
    net, x = small()
    q = quantize(Nearest(), net, x, SHARED)
    m, act = q.fake(), q.act_quants()

    def block(name, x):
        b = m.get_submodule(name)
        y = act[f"{name}.relu_act"].qparams.fake(F.relu(b.a(x)))
        return F.relu(b.b(y) + x)

    z = act["relu_act"].qparams.fake(F.relu(m.stem(act["x_act"].qparams.fake(x))))
    one = act["one.out_act"].qparams.fake(block("one", z))
    mean = act["mean_act"].qparams.fake(block("two", one).mean((2, 3)))  # behind the pool
    assert torch.equal(m(x), m.fc(mean))
    edges = {"x_act": 8, "mean_act": 8}
    assert bits(q) == {n: 2 for n in act if n not in edges} | edges


class Linear(nn.Module):
    """Linear bottlenecks without and with a shortcut, as in MobileNetV2, and a layer after them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.act, self.last, self.fc = nn.ReLU6(), nn.Conv2d(4, 6, 1), nn.Linear(6, 5)

    def forward(self, x):
        y = self.a(x)  # no function behind it, and read by a layer and an add
        y = y + self.b(y)
        return self.fc(self.act(self.last(y)).mean((2, 3)))


def test_linear_bottlenecks_and_a_layer_before_the_last():
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    net = Network.of(Linear().eval(), x[:2])
    q = Quantized(net, OUTPUTS)
    assert bits(q) == {"a_act": 2, "add_act": 2, "act_act": 8}
    assert q.behind == {"a": "a_act", "last": "act_act"}  # b goes into an add
    code = Quantized(net, replace(OUTPUTS, edge_acts="outputs"))
    assert bits(code) == {"a_act": 8, "add_act": 2, "act_act": 8}
    mixed = replace(OUTPUTS, overrides=(Override("last", 4, 5),))
    assert bits(Quantized(net, mixed))["add_act"] == 5


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.fc = nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.act(self.a(x)).mean((2, 3)))


@pytest.mark.filterwarnings("ignore:.*no known blocks")
def test_a_function_that_reconstruction_does_not_know_separates_layer_and_quantizer():
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    net = Network.of(Swish().eval(), x[:2])
    q = Quantized(net, OUTPUTS)
    assert (bits(q), q.behind) == ({"act_act": 8}, {})
    assert quantize(QDrop(iterations=2), net, x, OUTPUTS).digest


def test_a_step_behind_a_lone_layer_is_learnt_with_it():
    net, x = small()
    q = Quantized(net, OUTPUTS)
    assert [u.act for u in units(q, "block")] == ["relu_act", None, None, None]
    first = quantize(QDrop(iterations=1, act_lr=0.0), net, x, OUTPUTS)
    q = quantize(QDrop(iterations=20, act_lr=1e-2), net, x, OUTPUTS)
    steps = [{n: float(a.scale) for n, a in found.act_quants().items()} for found in (first, q)]
    assert all(steps[0][n] != steps[1][n] for n in steps[0])
    log = Log()
    quick = {"iterations": 2, "act_iterations": 20, "act_lr": 1e-2}
    q = quantize(BRECQ(**quick, loss="mse"), net, x, OUTPUTS, log=log)
    # the released code leaves the first layer and its step alone
    assert list(log.curves) == ["one", "two", "fc", "acts/one", "acts/two"]


def test_blocks_are_reconstructed_to_their_quantized_outputs():
    net, x = small()
    scheme = replace(OUTPUTS, acts=Grid(3, symmetric=False))
    q = quantize(QDrop(iterations=150, lr=0.02, act_lr=1e-3), net, x, scheme)
    nearest = quantize(Nearest(), net, x, scheme)
    for name in ("one", "two"):
        z = capture_output(net.model, name, (x,))
        off = [(capture_output(m.fake(), name, (x,)) - z).square().mean() for m in (q, nearest)]
        assert off[0] < 0.8 * off[1]  # found: 0.7


def test_ranges_in_turn_are_of_what_quantized_predecessors_give():
    net, x = small()
    q = Quantized(net, OUTPUTS)
    q.calibrate_acts((x[:16],), in_turn=True)
    act, m = q.act_quants(), q.model
    z = F.relu(net.model.stem(x[:16]))
    assert float(act["relu_act"].scale) == pytest.approx(float(z.max()) / 3)
    y = F.relu(net.model.one.a(act["relu_act"].qparams.fake(z)))
    assert float(act["one.relu_act"].scale) == pytest.approx(float(y.max()) / 3)
    assert all(a.enabled and not a._forward_pre_hooks for a in act.values())
    assert torch.equal(m(x), q.model(x))
    first = {n: a.scale.clone() for n, a in act.items()}
    q.calibrate_acts((x[:16],))
    assert any(not torch.equal(first[n], a.scale) for n, a in act.items())


def test_what_is_saved_comes_back(tmp_path):
    net, x = small()
    for scheme in (OUTPUTS, replace(OUTPUTS, edge_acts="outputs"), SHARED):
        q = quantize(Nearest(), net, x, scheme)
        serialize.save(q, tmp_path)
        again = serialize.load(tmp_path, net, scheme)
        assert (again.scheme, again.digest) == (scheme, q.digest)
        assert torch.equal(again.fake()(x), q.fake()(x))


def test_weights_alone_have_no_quantizers_to_place():
    net, x = small()
    q = quantize(Nearest(), net, x, replace(OUTPUTS, acts=None))
    assert not q.act_quants()


def test_words_that_mean_nothing_are_refused():
    with pytest.raises(BadInput, match="choose inputs, outputs, shared, attention, integer"):
        replace(OUTPUTS, placement="blocks")
    with pytest.raises(BadInput, match="edge_acts 'weights'"):
        replace(OUTPUTS, edge_acts="weights")
    with pytest.raises(BadInput, match="edge_acts 'outputs' under placement 'shared'"):
        replace(SHARED, edge_acts="outputs")
