"""Mixed precision of BRECQ: table, genetic search, exact solution, limits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantbench.errors import BadInput
from quantbench.latency.layers import measured as measured_ms
from quantbench.methods import mixed as method
from quantbench.methods.mixed import BRECQMixed
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import Log, Pipeline, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), Block(), nn.Flatten(), nn.Linear(96, 5)]
        return Network.of(nn.Sequential(*layers), torch.randn(2, 3, 6, 6), blocks=("2",))


@pytest.fixture(scope="module")
def calib():
    return torch.randn(32, 3, 6, 6, generator=torch.Generator().manual_seed(1))


SCHEME = Scheme(Grid(4, symmetric=False, per_channel=True))


def run(net, calib, scheme=SCHEME, rounding="nearest", **fields):
    log = Log()
    return quantize(
        Pipeline((BRECQMixed(rounding=rounding, **fields), Nearest())), net, calib, scheme, log=log
    ), log.numbers


def test_the_table_holds_what_joint_changes_cost(net, calib):
    _, numbers = run(net, calib, limit=0.6, measure="mse", bits=(2, 4))

    def loss(low):
        q = quantize(Nearest(), net, calib, Scheme(SCHEME.weights))
        other = quantize(Nearest(), net, calib, Scheme(Grid(2, symmetric=False, per_channel=True)))
        for name in low:
            q.layer(name).weight = other.layer(name).weight
        with torch.no_grad():
            return float((q.model(calib) - net.model(calib)).square().mean())

    a, b, both, base = loss(["2.a"]), loss(["2.b"]), loss(["2.a", "2.b"]), loss([])
    close = {"rel": 1e-4, "abs": 1e-7}  # float32 means over 160 values
    assert numbers["sensitivity/2.a/2"] == pytest.approx(a - base, **close)
    assert numbers["sensitivity/2.a/4"] == 0
    assert numbers["sensitivity/2.a+2.b"] == pytest.approx(both - a - b + base, **close)
    # layers outside blocks have no partner
    assert not any("0+" in name or "+4" in name for name in numbers)


def test_reconstructed_layers_are_what_the_paper_measures(net, calib):
    quick = {"limit": 0.6, "measure": "mse", "bits": (2, 8)}
    _, numbers = run(net, calib, rounding="reconstructed", steps=150, lr=0.03, **quick)
    brecq = {"iterations": 150, "lr": 0.03, "act_iterations": 150}

    def at(b):  # the generator goes on from one to the next, so codes may be others
        grid = Grid(b, symmetric=False, per_channel=True)
        return quantize(make("brecq", brecq), net, calib, Scheme(grid))

    def loss(q):
        with torch.no_grad():
            return float((q.model(calib) - net.model(calib)).square().mean())

    q, few = at(8), at(2)
    base = loss(q)
    q.layer("2.b").weight = few.layer("2.b").weight
    want = loss(q) - base
    assert numbers["sensitivity/2.b/2"] == pytest.approx(want, rel=0.5)
    _, nearest = run(net, calib, **quick)
    # a network that is learnt at 2 bits costs less, layer by layer, than its weights rounded
    assert numbers["sensitivity/2.b/2"] < nearest["sensitivity/2.b/2"]


def test_the_choice_is_within_its_size_and_what_follows_rounds_to_it(net, calib):
    q, numbers = run(net, calib, limit=0.45)
    bits = {o.layer: o.weights for o in q.scheme.overrides}
    assert bits.keys() == {i.name for i in net.layers}
    assert sum(bits[i.name] * i.params for i in net.layers) <= 0.45 * 8 * sum(
        i.params for i in net.layers
    )
    assert (
        numbers["mixed/cost"]
        == sum(bits[i.name] * i.params for i in net.layers) / 8
        <= numbers["mixed/limit"]
    )
    for layer in q.layers():
        assert layer.codes.max() - layer.codes.min() < 2 ** bits[layer.info.name]
    assert numbers["mixed/gap"] >= 0
    again, _ = run(net, calib, limit=0.45)
    assert again.digest == q.digest


def test_edges_keep_their_bits_and_count(net, calib):
    scheme = Scheme(SCHEME.weights, first_last_bits=8)
    q, numbers = run(net, calib, scheme, limit=0.7)
    assert {o.layer for o in q.scheme.overrides} == {"2.a", "2.b"}
    edges = sum(i.params for i in net.layers if i.name in net.edges)
    inner = sum(o.weights * net.layer(o.layer).params for o in q.scheme.overrides) / 8
    assert numbers["mixed/cost"] == edges + inner <= numbers["mixed/limit"]


def test_an_absolute_limit_in_bytes(net, calib):
    size = sum(i.params for i in net.layers)
    assert (
        run(net, calib, limit=size / 2, absolute=True)[0].digest
        == run(net, calib, limit=0.5)[0].digest
    )


def test_latency_comes_from_the_table_of_the_kernels(net, calib, monkeypatch):
    def table(_, bits):
        return {
            i.name: {2: 1.0, 4: 1.5, 8: 4.0}[bits[0]] * (10 if i.name == "2.b" else 1)
            for i in net.layers
        }

    monkeypatch.setattr(method, "measured", table)
    q, numbers = run(net, calib, gain="latency", limit=30.0, absolute=True)
    bits = {o.layer: o.weights for o in q.scheme.overrides}
    assert bits["2.b"] < 8  # at 8 it alone takes 40 ms
    assert numbers["mixed/cost"] == sum(table(None, (b, 8))[name] for name, b in bits.items()) <= 30
    with pytest.raises(BadInput, match=r"within 12 ms: the fastest needs 13 .*4 layers at 2 bits"):
        run(net, calib, gain="latency", limit=12.0, absolute=True)


def test_latency_is_measured_on_the_kernels_of_this_machine(net, calib, monkeypatch):
    measured = {}

    def spy(job, bits):
        measured[bits[0]] = measured_ms(job, bits)
        return measured[bits[0]]

    monkeypatch.setattr(method, "measured", spy)
    q, numbers = run(net, calib, gain="latency", limit=2.0, bits=(4, 8))
    names = {i.name for i in net.layers}
    assert all(table.keys() == names and min(table.values()) > 0 for table in measured.values())
    assert numbers["mixed/cost"] == pytest.approx(
        sum(measured[o.weights][o.layer] for o in q.scheme.overrides)
    )


def test_a_choice_by_latency_is_not_made_twice(net, calib, tmp_path, monkeypatch):
    turned = []

    def table(_, bits):  # the second time, the other layers are the slow ones
        slow = ("2.a", "2.b") if len(turned) < 3 else ("0", "4")
        turned.append(bits)
        return {i.name: float(bits[0] * (10 if i.name in slow else 1)) for i in net.layers}

    monkeypatch.setattr(method, "measured", table)
    chain = Pipeline((BRECQMixed(gain="latency", limit=0.6, rounding="nearest"), Nearest()))
    logs = Log(), Log()
    first, again = (quantize(chain, net, calib, SCHEME, scratch=tmp_path, log=log) for log in logs)
    assert (first.scheme, first.digest) == (again.scheme, again.digest)
    assert (len(turned), logs[0].numbers) == (3, logs[1].numbers)


def test_a_size_that_nothing_has_names_the_smallest(net, calib):
    with pytest.raises(
        BadInput, match=r"the smallest needs .* that is 0\.25\), with 4 layers at 2 bits"
    ):
        run(net, calib, limit=0.1)


def test_large_blocks_are_cut(net, calib):
    _, numbers = run(net, calib, together=1)
    assert not any("+" in name for name in numbers)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gain": "bops"}, "choose size, latency"),
        ({"search": "random"}, "choose genetic, exact"),
        ({"measure": "top1"}, "choose kl"),
        ({"bits": (4,)}, "at least two"),
        ({"rounding": "ceil"}, "choose reconstructed, nearest"),
        ({"population": 1}, "a population of 2"),
    ],
)
def test_words_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(BadInput, match=message):
        BRECQMixed(**fields)


def test_it_goes_before_reconstruction(net, calib):
    chain = make(
        "brecq-mixed+brecq",
        {"limit": 0.45, "rounding": "nearest", "brecq.iterations": 20, "search": "exact"},
    )
    q = quantize(chain, net, calib, SCHEME)
    assert q.scheme.overrides
    assert isinstance(q, Quantized)
