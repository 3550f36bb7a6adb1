"""Rounding schemes, and QUBO against other ways to both Hessians and against every choice."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from quantbench.calibration.memory import Memory
from quantbench.calibration.task_hessian import task_hessian
from quantbench.calibration.walk import Progressive
from quantbench.conformance import check
from quantbench.errors import BadInput, Unsupported
from quantbench.methods.nearest import Nearest
from quantbench.methods.qubo import Qubo
from quantbench.methods.rounding import Rounding, share_up
from quantbench.network.network import Network
from quantbench.quantization.grids import QParams
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.small import small

W2 = Scheme(Grid(2, per_channel=True))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_another_rule_conforms():
    check(Rounding("ceil"))


# ---- Rounding by a rule
# ----------------------------------------------------------------------------


def test_rules():
    qp = QParams(torch.tensor(0.5), torch.tensor(0.0), tuple(range(-2, 2)))
    w = torch.tensor([-3.0, -0.6, -0.1, 0.0, 0.2, 0.4, 0.7])
    want = {
        "floor": [-2, -2, -1, 0, 0, 0, 1],
        "ceil": [-2, -1, 0, 1, 1, 1, 1],
        "nearest": [-2, -1, 0, 0, 0, 1, 1],
    }
    for rule, codes in want.items():
        assert Rounding(rule).codes(w, qp, rng()).tolist() == codes
    torch.testing.assert_close(share_up(w, qp), torch.tensor([0.0, 0.8, 0.8, 0.0, 0.4, 0.8, 0.0]))
    with pytest.raises(BadInput, match="up"):
        Rounding("up")


def test_a_rounding_writes_down_what_it_costs_the_task():
    net, x = small()
    first, log = Scheme(Grid(2), which="first"), Log()
    q = quantize(Rounding("floor", cost=True), net, x, first, log=log)
    (layer,) = q.layers()
    h = task_hessian(Progressive(net.model, (x,), Memory()), layer, 10, rng())
    dw = (layer.weight - layer.original).flatten()
    assert log.numbers["cost"] == pytest.approx(float(dw @ h @ dw), rel=1e-4)
    assert log.numbers["cost"] > 0
    with pytest.raises(Unsupported, match="first layer alone"):
        quantize(Rounding("floor", cost=True), net, x, Scheme(Grid(2)))


def test_stochastic_rounding_is_unbiased_and_its_draws_differ():
    qp = QParams(torch.tensor(1.0), torch.tensor(0.0), tuple(range(-8, 8)))
    w = torch.linspace(-6, 6, 41)
    draws = torch.stack([Rounding().codes(w, qp, rng(i)) for i in range(400)])
    # six standard errors of a mean of 400 draws whose variance is at most 1/4
    assert (draws.mean(0) - w).abs().max() < 6 * 0.5 / 20
    assert len({tuple(d) for d in draws.tolist()}) == 400


# ---- The solver
# ------------------------------------------------------------------------------------


def every(down, up, h):
    """Smallest cost of a row over all 2^n choices."""
    choices = torch.tensor(list(itertools.product((False, True), repeat=len(down))))
    e = torch.where(choices, up, down)
    return ((e @ h) * e).sum(1).min()


@pytest.mark.parametrize("seed", range(6))
def test_the_cross_entropy_method_finds_the_optimum_of_small_rows(seed):
    n, rows, g = 10, 3, rng(seed)
    a = torch.randn(40, n, generator=g) + torch.randn(40, 1, generator=g)  # correlated inputs
    h = a.mT @ a / 40
    up = torch.rand(rows, n, generator=g)
    down = up - 1
    choice = Qubo().solve(down, up, up.neg() + 1, h, g)
    e = torch.where(choice, up, down)
    found = ((e @ h) * e).sum(1)
    for r in range(rows):
        torch.testing.assert_close(found[r], every(down[r], up[r], h))


def test_many_rows_are_solved_in_parts(monkeypatch):
    # three rows at a time
    monkeypatch.setattr("quantbench.methods.qubo.SAMPLED_VALUES", 3 * 500 * 6)
    up = torch.rand(7, 6, generator=rng())
    choice = Qubo(samples=500).solve(up - 1, up, 1 - up, torch.eye(6), rng())
    assert torch.equal(choice, up < 0.5)  # a diagonal H: nearest is the optimum


def test_nonsense_is_refused():
    for wrong in (
        {"hessian": "full"},
        {"samples": 10, "elite": 0.01},
        {"smoothing": 1.0},
        {"steps": 0},
        {"draws": 0},
    ):
        with pytest.raises(BadInput):
            Qubo(**wrong)


# ---- The Hessians
# ----------------------------------------------------------------------------------


def classifier():
    """A convolution and a linear layer; labels never enter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    x = torch.randn(9, 2, 3, 3, generator=rng(1))
    return Network.of(model.eval(), x[:2]), x


@pytest.mark.parametrize("name", ["0", "3"])
def test_the_task_hessian_is_the_second_derivative_of_the_cross_entropy(name):
    net, x = classifier()
    q = Quantized(net, W2)
    found = task_hessian(Progressive(net.model, (x,), Memory()), q.layer(name), 10, rng())
    # the expected label: the first term of the Hessian then vanishes
    p = net.model(x).softmax(1).detach()

    def loss(flat):
        weights = {f"{name}.weight": flat.view_as(q.layer(name).original)}
        return -(p * F.log_softmax(functional_call(net.model, weights, (x,)), 1)).sum(1).mean()

    want = torch.autograd.functional.hessian(loss, q.layer(name).original.flatten())
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-5)


def test_drawn_labels_estimate_the_same_hessian():
    net, x = classifier()
    passes, layer = Progressive(net.model, (x,), Memory()), Quantized(net, W2).layer("0")
    exact = task_hessian(passes, layer, 10, rng())
    drawn = torch.stack([task_hessian(passes, layer, 3, rng(i)) for i in range(60)]).mean(0)
    assert (drawn - exact).norm() < 0.2 * exact.norm()  # 180 labels an image; found: 0.06


@pytest.mark.parametrize("hessian", ["local", "task"])
def test_a_network_is_better_than_nearest_in_its_own_objective(hessian):
    net, x = classifier()
    log = Log()
    q = quantize(Qubo(hessian=hessian, samples=200), net, x, W2, log=log)
    near = quantize(Nearest(), net, x, W2)
    lower = 0
    for layer, other in zip(q.layers(), near.layers(), strict=True):
        name = layer.info.name
        if hessian == "local":
            inputs = x if name == "0" else net.model[:3](x)
            out = [
                layer.run(inputs, w) - layer.run(inputs, layer.original)
                for w in (layer.weight, other.weight)
            ]
            mine, theirs = (float((o * o).sum(1).mean()) for o in out)
        else:
            h = task_hessian(Progressive(net.model, (x,), Memory()), layer, 10, rng())
            d = [(w - layer.original).flatten() for w in (layer.weight, other.weight)]
            mine, theirs = (float(e @ h @ e) for e in d)
        assert log.numbers[f"objective/{name}"] == pytest.approx(mine, rel=1e-3)
        assert mine <= theirs * (1 + 1e-5)
        lower += mine < 0.95 * theirs
    assert lower


def test_the_task_hessian_of_a_large_layer_is_refused():
    net = Network.of(nn.Sequential(nn.Linear(40, 8), nn.Linear(8, 2000)), torch.zeros(2, 40))
    with pytest.raises(
        Unsupported, match=r"1 would have 16000.2 entries: quantize the first layer alone"
    ):
        quantize(Qubo(hessian="task"), net, torch.zeros(4, 40), W2)
    assert Qubo(hessian="task").unsupported(net, Scheme(Grid(2), which="first")) is None
