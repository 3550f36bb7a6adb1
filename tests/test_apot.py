import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quantbench.methods.adaround import AdaRound
from quantbench.methods.apot import APoT
from quantbench.methods.nearest import Nearest

from quantbench.api import Log, quantize
from quantbench.conformance import failures, small_network
from quantbench.errors import BadInput, Unsupported
from quantbench.grids import code_levels
from quantbench.integer.simulate import Simulation
from quantbench.network import Network
from quantbench.quantized import Quantized
from quantbench.rcf import normalize, rcf, weight_levels
from quantbench.scheme import Grid, Scheme

KINDS = ("apot", "pot", "uniform")


def scheme(bits=4, kind="apot", **more):
    return Scheme(Grid(bits, kind), Grid(bits, kind, symmetric=False), **{"first_last_bits": 8, **more})


def released(seed=0):
    """A network as a checkpoint of the method is: its own thresholds, channels of either sign, long tails below."""
    net, x = small_network(seed)
    model, rng = copy.deepcopy(net.unfolded), torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data = torch.randn(module.weight.shape, generator=rng)
            module.running_mean = torch.randn(module.bias.shape, generator=rng)
        elif isinstance(module, torch.nn.Conv2d) and name != "conv1":
            module.register_buffer("act_alpha", torch.tensor(1.5))
            module.weight_quant = torch.nn.Module()
            module.weight_quant.register_buffer("wgt_alpha", torch.tensor(2.0))
    w = model.conv1.weight.data
    w[0].clamp_(max=0.3 * float(w.max()))
    w[0, 0, 0, 0] = -1.4 * w.max()  # 178 steps below zero, where the largest weight is 127 above
    return Network.of(model, net.sample, name="released"), x


def test_weights_have_as_many_levels_below_zero_as_above():
    assert weight_levels("apot", 2) == weight_levels("uniform", 2) == weight_levels("pot", 2) == (-1, 0, 1)
    assert weight_levels("apot", 4) == (-10, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 10)
    assert weight_levels("uniform", 3) == (-3, -2, -1, 0, 1, 2, 3)


@given(kind=st.sampled_from(KINDS), bits=st.integers(2, 4), seed=st.integers(0, 2**31), masked=st.booleans())
def test_clipping_function_and_its_gradients_are_the_papers(kind, bits, seed, masked):
    levels = weight_levels(kind, bits)
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    alpha = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    g = torch.randn(200, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    out = rcf(x, alpha, levels, masked=masked)
    (out * g).sum().backward()
    ratio = x.detach() / 0.8
    q = torch.tensor(levels, dtype=torch.float64) / levels[-1]
    nearest = q[(ratio.clamp(-1, 1)[:, None] - q).abs().argmin(1)]
    assert torch.allclose(out.detach(), 0.8 * nearest)
    outside = ratio.abs() > 1
    assert torch.allclose(alpha.grad, (g * torch.where(outside, ratio.sign(), nearest - ratio)).sum())
    assert torch.allclose(x.grad, torch.where(outside & masked, 0.0, g))


def test_normalization_is_differentiated_only_when_asked():
    w = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    g = torch.arange(50.0, dtype=torch.float64)
    out = normalize(w, detached=True)
    assert abs(float(out.mean().detach())) < 1e-12
    assert abs(float(out.std().detach()) - 1) < 1e-6
    (constant,) = torch.autograd.grad((out * g).sum(), w)
    assert torch.allclose(constant, g / w.detach().std(), rtol=1e-6)
    (full,) = torch.autograd.grad((normalize(w, detached=False) * g).sum(), w)
    assert abs(float(full.sum())) < 1e-9  # a common shift of all weights changes nothing
    assert abs(float((full * w.detach()).sum())) < 1e-5  # nor does a common factor


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_becomes_integers_that_compute_the_same(kind):
    net, x = released()
    q = quantize(APoT(epochs=0), net, x, scheme(3, kind))
    model = copy.deepcopy(net.unfolded)
    for name, conv in model.named_modules():
        if isinstance(conv, torch.nn.Conv2d) and name != "conv1":
            w = (conv.weight - conv.weight.mean()) / conv.weight.std()
            conv.weight.data = rcf(w, torch.tensor(2.0), weight_levels(kind, 3)).detach()
            levels = code_levels(kind, 3, signed=False)
            conv.register_forward_pre_hook(lambda _, a, ls=levels: rcf(a[0], torch.tensor(1.5), ls))
        elif name in net.edges:
            step = conv.weight.max() / 127
            conv.weight.data = (conv.weight / step).round() * step
    with torch.no_grad():
        want, got = model(x), q.fake()(x)
    # An activation on the boundary of two levels may round the other way after folding: almost all logits agree.
    close = torch.isclose(want, got, rtol=1e-3, atol=1e-3 * float(want.abs().max()))
    assert close.float().mean() > 0.9
    for layer in q.layers():
        if layer.info.name not in net.edges:
            assert set(layer.codes.unique().tolist()) <= set(weight_levels(kind, 3))
        else:
            assert layer.act is None or not layer.act.enabled
            assert layer.qparams.levels == tuple(range(256))
    assert float((q.layer("conv1").codes - q.layer("conv1").qparams.zero).abs().max()) == 178


def test_conformance():
    assert list(failures(APoT(epochs=0))) == []


def test_without_batch_norm_or_after_a_rewrite_is_refused():
    net, x = small_network()
    with pytest.raises(Unsupported, match="batch norm"):
        quantize(APoT(epochs=0), Network(net.name, net.model, net.layers, net.sample), x, scheme())
    other = copy.deepcopy(net.model)
    other.linear.weight.data *= 3
    changed = Network(net.name, other, net.layers, net.sample, unfolded=net.unfolded)
    with pytest.raises(BadInput, match="put apot before"):
        quantize(APoT(epochs=0), changed, x, scheme())


@pytest.mark.parametrize("kind", ["apot", "pot"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_levels_serve_every_rounding(kind, per_channel):
    net, x = small_network()
    s = Scheme(Grid(4, kind, per_channel=per_channel), Grid(3, kind, symmetric=False), first_last_bits=8)
    nearest = quantize(Nearest(), net, x, s)
    learnt = quantize(AdaRound(iterations=2), net, x, s)
    for a, b in zip(nearest.layers(), learnt.layers(), strict=True):
        edge = a.info.name in net.edges
        levels = tuple(range(-128, 128)) if edge else code_levels(kind, 4, signed=True)
        assert a.qparams.levels == b.qparams.levels == levels
        low, high = b.qparams.bracket(b.original)
        assert bool(((b.codes == low) | (b.codes == high)).all())  # up or down between neighbouring levels
        assert bool(((a.codes == low) | (a.codes == high)).all())
        assert len(a.act.levels) == (256 if edge else 8)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("method", [Nearest(), APoT(epochs=0)])
def test_runs_on_integers_exactly(bits, method):
    from quantbench.integer import reference

    net, x = small_network()
    q = quantize(method, net, x, scheme(bits, placement="integer"))
    program = q.integer()
    want, got = reference.run(program, x[:2].numpy()), Simulation(program).codes(x[:2])
    assert all((got[name].numpy() == tensor).all() for name, tensor in want.items())
    restricted = [op for op in program.ops if type(op).__name__ == "Lut"]
    assert restricted
    for op in restricted:  # one step of the fine grid is a whole part of the levels' step
        levels = set(want[op.output].ravel().tolist())
        assert levels <= set(code_levels("apot", bits, signed=False))


@pytest.mark.parametrize("bits", [2, 4])
def test_training_on_real_labels_learns_and_repeats(bits):
    from quantbench.task import task

    net = task("shapes/resnet8", "shapes/test").network()
    calib = task("shapes/resnet8", "shapes/test").calibration("shapes/calib", 16, 0)
    short = {"epochs": 1, "batch_size": 32, "examples": 64, "train_data": "shapes/calib", "watch": "shapes/calib"}
    m = APoT(lr=0.01, alpha_a=0.0, **short)
    log = Log()
    first, second = (quantize(m, net, calib, scheme(bits), seed=3, log=log) for _ in range(2))
    assert first.digest == second.digest
    assert first.digest != quantize(m, net, calib, scheme(bits), seed=4).digest
    assert set(log.curves) >= ({"loss/4bits", "loss/3bits", "loss/2bits"} if bits == 2 else {"loss/4bits"})
    assert log.numbers[f"top1/{bits}bits/best"] >= log.numbers[f"top1/{bits}bits/last"]
    before = quantize(APoT(epochs=0, alpha_a=0.0), net, calib, scheme(bits))
    assert isinstance(before, Quantized)
    assert before.digest != first.digest
