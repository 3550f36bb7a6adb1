"""What all reconstructions share: gradients, units, the memory limit, processes, bfloat16."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quantbench.calibration.memory import LIMIT
from quantbench.errors import BadInput, Unsupported
from quantbench.methods.adaround import AdaRound
from quantbench.methods.brecq import BRECQ
from quantbench.methods.equalize import Equalize
from quantbench.methods.gramround import GramRound
from quantbench.methods.nearest import Nearest
from quantbench.methods.qdrop import QDrop
from quantbench.network.hooks import capture_input
from quantbench.network.modules import Bounds
from quantbench.network.network import Network
from quantbench.optimization.adam import Adam
from quantbench.optimization.descent import minimise
from quantbench.optimization.reconstruction import layer_error, squared_error
from quantbench.optimization.soft_rounding import GAMMA, ZETA, Relaxation, Relaxed
from quantbench.optimization.units import units
from quantbench.quantization.grids import QParams
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.system import parallel
from tests.helpers.methods import W3, W3A4, every_method
from tests.helpers.separable import W8A8, Separable, job, seeded
from tests.helpers.small import LAYERS, small
from tests.optimization.processes import outcome

ROOT = Path(__file__).resolve().parents[2]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- Gradients that are written out, against autograd
# ---------------------------------------------


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "clamp"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_error_of_a_layer_and_its_gradient(layer, activation):
    x = torch.randn((5, 4, 7, 8) if isinstance(layer, nn.Conv2d) else (5, 3, 8), generator=rng())
    net = Network.of(nn.Sequential(layer, nn.Flatten()), x[:2])
    (quant,) = Quantized(net, W3).layers()
    fa = {None: lambda z: z, "relu": F.relu, "relu6": F.relu6}.get(activation)
    if activation == "clamp":  # on linear layers, one bound for each of the 3 positions
        channels = quant.original.shape[0] if isinstance(layer, nn.Conv2d) else 3
        low, high = torch.rand(2, channels, generator=rng(2)).mul(torch.tensor([[-1.0], [4.0]]))
        activation = fa = Bounds(low, high)
    target = fa(3 * torch.randn(quant.run(x, quant.original).shape, generator=rng(1)))
    w, again = (quant.original.clone().requires_grad_() for _ in range(2))
    want = squared_error(fa(quant.run(x, w)), target.clone())
    plain = (fa(quant.run(x, again)) - target).square()
    torch.testing.assert_close(want, plain.sum(1 if plain.dim() == 4 else -1).mean())
    (want_gradient,) = torch.autograd.grad(want, w)
    found = layer_error(quant, x, again, target.clone(), activation)
    (gradient,) = torch.autograd.grad(2 * found, again)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(gradient, 2 * want_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_error_of_a_table_of_embeddings_and_its_gradient(bfloat16):
    rows = torch.randint(0, 11, (5, 7), generator=rng())
    net = Network.of(
        nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 3)),
        rows[:2],
        kinds=(nn.Linear, nn.Embedding),
    )
    quant = Quantized(net, W3).layer("0")
    target = torch.randn(5, 7, 8, generator=rng(1))
    w, again = (quant.original.clone().requires_grad_() for _ in range(2))
    want = (F.embedding(rows, w) - target).square().sum(-1).mean()
    (want_gradient,) = torch.autograd.grad(want, w)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = layer_error(quant, rows, again, target.clone(), None)
        (gradient,) = torch.autograd.grad(found, again)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(gradient, want_gradient, rtol=1e-4, atol=1e-5)


def test_the_relaxation_and_its_gradient():
    ws = [torch.randn(4, 3, 3, 3, generator=rng()), torch.randn(5, 8, generator=rng(1))]
    qps = [QParams(torch.full((), 0.3), torch.zeros(()), tuple(range(-4, 4))) for _ in ws]
    how = Relaxation(lam=0.05, beta_start=10, beta_end=2, warmup=0.0, anneal="linear")
    relaxed = Relaxed(ws, qps, how)
    # starts at the weights, within the stretch's clamp
    for w, soft in zip(ws, relaxed.weights(0.0)[0], strict=True):
        inside = (w / 0.3 > -4) & (w / 0.3 < 3)
        assert (soft - w)[inside].abs().max() < 0.001 * 0.3 + 1e-6
    relaxed.v.data = 6 * torch.randn(relaxed.v.shape, generator=rng(2))
    weights, penalty = relaxed.weights(0.5)
    (gradient,) = torch.autograd.grad(sum((w * w).sum() for w in weights) + penalty, relaxed.v)
    v = relaxed.v.detach().clone().requires_grad_()
    h = (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)  # eq. 23
    flat = relaxed.middle + relaxed.half * (2 * h - 1)
    f_reg = (1 - (2 * h - 1).abs() ** 6).sum()  # eq. 24; half of the way from 10 to 2
    (want,) = torch.autograd.grad(flat.square().sum() + 0.05 * f_reg, v)
    torch.testing.assert_close(penalty, 0.05 * f_reg)
    torch.testing.assert_close(gradient, want)
    codes = relaxed.codes()
    for w, c, qp in zip(ws, codes, qps, strict=True):
        low, high = qp.bracket(w)
        assert ((c == low) | (c == high)).all()


def test_minimise_names_the_step_that_diverged():
    v = torch.ones(1, requires_grad=True)
    with pytest.raises(BadInput, match=r"inf at step .*lower the learning rate"):
        minimise(
            lambda *_: v.square().sum(),
            4,
            [torch.optim.SGD([v], lr=1e30)],
            iterations=9,
            batch_size=2,
            rng=rng(),
        )


# ---- Units
# ----------------------------------------------------------------------------------------


def names(net, granularity, scheme=W3):
    return [(u.layers, u.stop, u.activation) for u in units(Quantized(net, scheme), granularity)]


def test_units_of_every_granularity():
    net, _ = small()
    stem, fc = (("stem",), "stem", "relu"), (("fc",), "fc", None)
    one, two = ("one.a", "one.b"), ("two.a", "two.b")
    alone = [((n,), n, "relu" if n.endswith("a") else None) for n in (*one, *two)]
    assert names(net, "layer") == [stem, *alone, fc]
    assert names(net, "block") == [stem, (one, "one", None), (two, "two", None), fc]
    assert names(net, "stage") == [stem, (one + two, "two", None), fc]
    assert names(net, "network") == [(("stem", *one, *two, "fc"), "fc", None)]
    assert names(net, "block", scheme=Scheme(Grid(3), which="first")) == [stem]


def test_unknown_blocks_fall_back_to_layers_and_say_so():
    net, x = small(blocks=(), stages=())
    for granularity in ("block", "stage"):
        with pytest.warns(
            UserWarning,
            match=f"small has no known {granularity}s: every layer is reconstructed on its",
        ):
            assert names(net, granularity) == names(net, "layer")
    with pytest.warns(UserWarning, match="no known blocks"):
        quantize(BRECQ(iterations=2), net, x, W3)


def test_blocks_that_cannot_be():
    with pytest.raises(
        BadInput, match=r"block 'one\.relu' has no layer with weights; leave it out"
    ):
        names(small(blocks=("one.relu", "two"))[0], "block")
    with pytest.raises(BadInput, match=r"one\.a in more than one block"):
        names(small(blocks=("one", "one.a"))[0], "block")
    with pytest.raises(BadInput, match="block 'three' is not a module"):
        small(blocks=("three",))


@every_method
def test_a_shared_layer_is_refused_by_name(method, scheme):
    shared = nn.Linear(4, 4)
    net = Network.of(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 4, generator=rng()))
    with pytest.raises(Unsupported, match="layer '0' runs 2 times in one pass"):
        quantize(method, net, torch.randn(8, 4, generator=rng()), scheme)


@every_method
def test_layers_that_share_weights_are_refused_by_name(method, scheme):
    class Twice(nn.Module):
        def __init__(self, *, whole):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            if whole:
                self.b = self.a
            else:
                self.b.weight = self.a.weight

            self.whole = whole

        def forward(self, x):
            return self.b(x) if self.whole else self.b(self.a(x))

    x = torch.randn(8, 4, generator=rng())
    for whole in (True, False):
        with pytest.raises(Unsupported, match="layer 'a' shares its weights with 'b'"):
            quantize(method, Network.of(Twice(whole=whole), x[:2]), x, scheme)


# ---- Short of memory
# ------------------------------------------------------------------------------


@every_method
def test_past_the_memory_limit_the_result_is_the_same(method, scheme, monkeypatch):
    net, x = small()
    roomy = quantize(method, net, x, scheme)
    monkeypatch.setenv(LIMIT, "0.00001")  # 10 kB: everything goes to files
    assert quantize(method, net, x, scheme).digest == roomy.digest


# ---- bfloat16 and several processes
# ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "scheme"),
    [
        (AdaRound(iterations=20, lr=0.05, bfloat16=True), W3),
        (BRECQ(iterations=20, lr=0.05, act_iterations=5, bfloat16=True), W3A4),
        (QDrop(iterations=20, lr=0.05, bfloat16=True), W3A4),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_bfloat16_gives_nearly_the_same_error(method, scheme):
    net, x = small()
    logs = Log(), Log()
    exact = quantize(replace(method, bfloat16=False), net, x, scheme, log=logs[0])
    near = quantize(method, net, x, scheme, log=logs[1])
    errors = [float((q.fake()(x) - net.model(x)).square().mean()) for q in (exact, near)]
    assert logs[0].curves != logs[1].curves
    assert errors[1] < 1.5 * errors[0]  # rounding differs here and there; found: 0.7 to 1.2


def test_without_torchrun_there_is_one_process():
    parallel.join()
    assert parallel.processes() == 1
    assert len(parallel.share((torch.zeros(5),))[0]) == 5


@pytest.mark.slow
def test_two_processes_agree_and_do_as_well_as_one(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    run = [*command, sys.executable, "-m", "tests.optimization.processes", str(tmp_path)]
    done = subprocess.run(
        run, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (sorted((tmp_path / f"rank-{i}").read_text().splitlines()) for i in (0, 1))
    assert first == second  # the same bits in both processes
    found = {name: float(error) for name, _, error in map(str.split, first)}
    assert found.keys() == {"adaround", "brecq", "qdrop", "gramround", "qubo", "pipeline"}
    # the same moments
    assert found["gramround"] == pytest.approx(outcome(GramRound(width=8, moves=20))[1], rel=0.01)
    assert max(found.values()) < 0.9 * outcome(Nearest())[1]  # found: 0.25 to 0.68


def test_adam_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.zeros(3, 7).requires_grad_() for _ in range(2))
    optimizers = Adam(ours, 0.1), torch.optim.Adam([theirs], lr=0.1)
    for i in range(30):
        gradient = torch.randn(3, 7, generator=generator) * 10 ** (i % 3)
        for x, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            (x * gradient).sum().backward()
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().min() > 0


def test_bounds_per_channel_take_part_in_a_layers_error():
    """Equalization makes such bounds of a ReLU6; they are no name, and were left out once."""
    model, x = seeded(Separable)
    net = Equalize().apply(job(Network.of(model, x[:2]), x)).net
    q = Quantized(net, W8A8)
    layer = q.layer("point")
    assert isinstance(layer.activation, Bounds)
    assert torch.equal(layer.activation(x12 := torch.randn(2, 12, 3, 3)), net.model.act3(x12))
    (inputs,) = capture_input(net.model, "point", (x,))
    target = torch.zeros_like(layer(inputs))
    w = layer.original.clone().requires_grad_()
    ours = layer_error(layer, inputs, w, target.clone(), layer.activation)
    v = layer.original.clone().requires_grad_()
    theirs = squared_error(net.model.act3(layer.run(inputs, v)), target)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    ours.backward()
    theirs.backward()
    assert torch.allclose(w.grad, v.grad, rtol=1e-3, atol=1e-5 * float(v.grad.abs().max()))
    found = {unit.stop: unit.activation for unit in units(q, "layer")}
    assert isinstance(found["depth"], Bounds)
    assert found["group"] == "relu"
