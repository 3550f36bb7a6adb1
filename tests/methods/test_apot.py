import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantbench.conformance import small_network
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from quantbench.methods.adaquant import AdaQuant
from quantbench.methods.adaround import AdaRound
from quantbench.methods.apot import SHORT, APoT
from quantbench.methods.bias import IBC
from quantbench.methods.equalize import Equalize
from quantbench.methods.gramround import GramRound
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.optimization.clipping import normalize, rcf, weight_levels
from quantbench.quantization.grids import QParams
from quantbench.quantization.levels import code_levels
from quantbench.quantization.method import Log, Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme

KINDS = ("apot", "pot", "uniform", "lloyd")


def scheme(bits=4, kind="apot", **more):
    return Scheme(
        Grid(bits, kind), Grid(bits, kind, symmetric=False), **{"first_last_bits": 8, **more}
    )


def released(seed=0):
    """A network as a checkpoint of the method is.

    It has its own thresholds, channels of either sign, and long tails below.
    """
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
    assert (
        weight_levels("apot", 2)
        == weight_levels("uniform", 2)
        == weight_levels("pot", 2)
        == (-1, 0, 1)
    )
    assert weight_levels("apot", 4) == (-10, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 10)
    assert weight_levels("uniform", 3) == (-3, -2, -1, 0, 1, 2, 3)


@given(
    kind=st.sampled_from(KINDS),
    bits=st.integers(2, 4),
    seed=st.integers(0, 2**31),
    masked=st.booleans(),
    calibrated=st.booleans(),
)
def test_clipping_function_and_its_gradients_are_the_papers(kind, bits, seed, masked, calibrated):
    levels = weight_levels(kind, bits)
    x = torch.randn(
        200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).requires_grad_()
    alpha = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    g = torch.randn(200, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    out = rcf(x, alpha, levels, masked=masked, calibrated=calibrated)
    (out * g).sum().backward()
    ratio = x.detach() / 0.8
    q = torch.tensor(levels, dtype=torch.float64) / levels[-1]
    nearest = q[(ratio.clamp(-1, 1)[:, None] - q).abs().argmin(1)]
    assert torch.allclose(out.detach(), 0.8 * nearest)
    outside = ratio.abs() > 1
    inside = nearest - ratio if calibrated else torch.zeros_like(ratio)  # PACT's is 0 there
    assert torch.allclose(alpha.grad, (g * torch.where(outside, ratio.sign(), inside)).sum())
    assert torch.allclose(x.grad, torch.where(outside & masked, 0.0, g))


def test_normalization_is_differentiated_only_when_asked():
    w = torch.randn(
        50, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
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
    # the first one has a weight on the boundary of two of Lloyd's levels, which may go either way
    net, x = released(seed=int(kind == "lloyd"))
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
    # An activation on the boundary of two levels may round the other way after folding: almost all
    # logits agree.
    close = torch.isclose(want, got, rtol=1e-3, atol=1e-3 * float(want.abs().max()))
    assert close.float().mean() > 0.9
    for layer in q.layers():
        if layer.info.name not in net.edges:
            assert set(layer.codes.unique().tolist()) <= set(weight_levels(kind, 3))
        else:
            assert layer.act is None or not layer.act.enabled
            assert layer.qparams.levels == tuple(range(256))
    assert float((q.layer("conv1").codes - q.layer("conv1").qparams.zero).abs().max()) == 178


@pytest.mark.parametrize("normalized", [True, False])
def test_codes_are_the_weights_that_are_trained(normalized):
    conv = torch.nn.Conv2d(3, 8, 3)
    rng = torch.Generator().manual_seed(1)
    conv.weight.data = 0.05 * torch.randn(conv.weight.shape, generator=rng) + 0.02
    method = APoT(alpha_w=2.0, normalized=normalized)
    layer = method.trained_form(conv, None, edge=False)
    layer.weight_levels = weight_levels("apot", 4)
    codes, qp = layer.codes(torch.ones(8, 1, 1, 1))
    assert torch.allclose(qp.dequantize(codes), layer.quantized().detach(), atol=1e-7)
    w, alpha = conv.weight.detach(), 2.0 * conv.weight.detach().std()
    if not normalized:  # W itself, cut off at two standard deviations
        assert float(layer.alpha_w.detach()) == pytest.approx(float(alpha))
        levels = torch.tensor(layer.weight_levels) / layer.weight_levels[-1]
        nearest = levels[((w / alpha).clamp(-1, 1)[..., None] - levels).abs().argmin(-1)]
        assert torch.allclose(qp.dequantize(codes), alpha * nearest, atol=1e-6)


def test_a_checkpoints_thresholds_need_normalized_weights():
    net, x = released()
    with pytest.raises(BadInput, match="normalized weights"):
        quantize(APoT(epochs=0, normalized=False), net, x, scheme())


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_lloyds_levels_are_the_means_of_what_is_nearest_to_them(bits):
    """On a million draws of half a bell; 0 stays a level, whatever is nearest to it."""
    x = torch.randn(10**6, generator=torch.Generator().manual_seed(bits)).abs().double()
    codes = torch.tensor(code_levels("lloyd", bits, signed=False)).double()
    if bits == 1:
        assert codes.tolist() == [0, 1]
        return
    scale = 3 / float(codes[-1])
    for _ in range(50):  # the levels are in the largest one's unit: it is the one that fits them
        nearest = torch.bucketize(x, scale * (codes[1:] + codes[:-1]) / 2)
        counts = nearest.bincount(minlength=len(codes))
        means = (nearest.bincount(weights=x, minlength=len(codes)) / counts)[1:]
        scale = float((means * codes[1:]).sum() / codes[1:].square().sum())
    assert torch.allclose(means / scale, codes[1:], rtol=0.01)


def test_lloyds_levels_round_a_bell_best():
    w = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))

    def error(levels):
        steps = [a * levels[-1] ** -1 for a in torch.linspace(1, 4, 61).tolist()]
        grids = (QParams(torch.tensor(s), torch.tensor(0.0), levels) for s in steps)
        return min(float((grid.fake(w) - w).square().mean()) for grid in grids)

    for bits in (3, 4, 5):
        others = [error(weight_levels(kind, bits)) for kind in ("apot", "pot", "uniform")]
        assert error(weight_levels("lloyd", bits)) < min(others)
    with pytest.raises(BadInput, match="Lloyd"):
        code_levels("lloyd", 8, signed=False)


def test_without_batch_norm_or_after_a_rewrite_is_refused():
    net, x = small_network()
    with pytest.raises(Unsupported, match="batch norm"):
        quantize(APoT(epochs=0), Network(net.name, net.model, net.layers, net.sample), x, scheme())
    other = copy.deepcopy(net.model)
    other.linear.weight.data *= 3
    changed = Network(net.name, other, net.layers, net.sample, unfolded=net.unfolded)
    for method, start in ((APoT(epochs=0), changed), (Pipeline((Equalize(), APoT(epochs=0))), net)):
        with pytest.raises(BadInput, match="put apot before"):
            quantize(method, start, x, scheme())


ROUNDING = {
    "nearest": Nearest(),
    "adaround": AdaRound(iterations=2),
    "adaround-ste": AdaRound(iterations=2, relaxation="ste"),
    "adaquant": AdaQuant(iterations=2, lr_weights=1e-2),
    "ibc": Pipeline((Nearest(), IBC(images=4))),
}


@pytest.mark.parametrize("kind", ["apot", "pot"])
@pytest.mark.parametrize("name", ROUNDING)
def test_levels_serve_every_rounding(kind, name):
    net, x = small_network()
    weights = Grid(4, kind, per_channel=name == "adaround", range="minmax")
    q = quantize(
        ROUNDING[name],
        net,
        x[:4],
        Scheme(weights, Grid(3, kind, symmetric=False), first_last_bits=8),
    )
    for layer in q.layers():
        edge = layer.info.name in net.edges
        levels = tuple(range(-128, 128)) if edge else code_levels(kind, 4, signed=True)
        assert layer.qparams.levels == levels
        assert set(layer.codes.unique().tolist()) <= set(levels)
        assert len(layer.act.levels) == (256 if edge else 8)
        if name in ("nearest", "adaround", "ibc"):  # up or down between neighbouring levels
            low, high = layer.qparams.bracket(layer.original)
            assert bool(((layer.codes == low) | (layer.codes == high)).all())


@pytest.mark.parametrize(
    "method", [AdaRound(iterations=300, lr=0.05), AdaQuant(iterations=300, lr_weights=3e-3)]
)
def test_learnt_rounding_on_additive_levels_reconstructs_better_than_nearest(method):
    rng = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(24, 8)
    x = torch.randn(128, 6, generator=rng) @ torch.randn(6, 24, generator=rng)
    model.weight.data = torch.randn(8, 24, generator=rng)
    net, s = Network.of(torch.nn.Sequential(model), x[:2]), Scheme(Grid(3, "apot"))
    near, learnt = (quantize(m, net, x, s).fake()(x) - net.model(x) for m in (Nearest(), method))
    assert learnt.square().mean() < 0.8 * near.square().mean()


def test_search_over_consecutive_codes_says_that_it_needs_them():
    net, x = small_network()
    with pytest.raises(Unsupported, match="uniform grids"):
        quantize(GramRound(), net, x[:4], Scheme(Grid(4, "apot")))


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("method", [Nearest(), APoT(epochs=0)])
def test_runs_on_integers_exactly(bits, method):
    from quantbench.integer import oracle

    net, x = small_network()
    log = Log()
    q = quantize(method, net, x, scheme(bits, placement="integer"), log=log)
    program = lower(q)
    want, got = oracle.run(program, x[:2].numpy()), Simulation(program).codes(x[:2])
    assert all((got[name].numpy() == tensor).all() for name, tensor in want.items())
    restricted = [op for op in program.ops if type(op).__name__ == "Lut"]
    assert restricted
    if isinstance(method, APoT):
        # of the first and the last layer
        assert log.numbers["shift_and_add/multiplications_kept"] > 0
        assert log.numbers["shift_and_add/additions"] > 0
    for op in restricted:  # one step of the fine grid is a whole part of the levels' step
        levels = set(want[op.output].ravel().tolist())
        assert levels <= set(code_levels("apot", bits, signed=False))


@pytest.fixture(scope="module")
def shapes():
    from quantbench.tasks.registry import task

    here = task("shapes/resnet8", "shapes/test")
    return here.network(), here.calibration("shapes/calib", 16, 0)


TINY = {
    "epochs": 1,
    "batch_size": 16,
    "examples": 32,
    "train_data": "shapes/calib",
    "alpha_a": 0.0,
    "lr": 0.01,
}
QUICK = Scheme(Grid(2, "apot"), Grid(2, "apot", symmetric=False, range="minmax"), first_last_bits=8)


def test_training_on_real_labels_learns_and_repeats(shapes):
    net, calib = shapes
    log, short = Log(), {**TINY, "progressive": False}
    watched = quantize(APoT(**short, watch="shapes/calib"), net, calib, QUICK, seed=3, log=log)
    assert log.numbers["top1/2bits/best"] >= log.numbers["top1/2bits/last"]
    # looking changes nothing
    assert watched.digest == quantize(APoT(**short), net, calib, QUICK, seed=3).digest
    assert watched.digest != quantize(APoT(epochs=0, alpha_a=0.0), net, calib, QUICK).digest


def test_imagenets_training_begins_at_five_bits_and_tells_how_far_all_stages_are(shapes):
    net, calib = shapes
    log, told = Log(), []
    method = APoT(**{**TINY, "examples": 16, "first_bits": 5})
    quantize(method, net, calib, QUICK, log=log, progress=lambda *now: told.append(now[:2]))
    assert list(log.curves) == [f"loss/{bits}bits" for bits in (5, 4, 3, 2)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("without", ["normalized", "reparameterized"])
def test_each_contribution_can_be_left_out(shapes, without):
    net, calib = shapes
    log, longer = Log(), {**TINY, "epochs": 4, "progressive": False}
    left_out = quantize(APoT(**longer, **{without: False}), net, calib, QUICK, seed=3, log=log)
    assert log.curves["loss/2bits"][-1] < log.curves["loss/2bits"][0]
    assert left_out.digest != quantize(APoT(**longer), net, calib, QUICK, seed=3).digest


def test_training_on_real_labels_lowers_the_loss(shapes):
    net, calib = shapes
    log, longer = Log(), {**TINY, "epochs": 4, "progressive": False}
    quantize(APoT(**longer), net, calib, QUICK, seed=3, log=log)
    assert log.curves["loss/2bits"][-1] < log.curves["loss/2bits"][0]


def test_interrupted_stages_go_on_bit_by_bit(shapes, tmp_path):
    net, calib = shapes
    m = APoT(**{**TINY, "examples": 16})
    log = Log()
    straight = quantize(m, net, calib, QUICK, log=log)
    assert set(log.curves) == {"loss/4bits", "loss/3bits", "loss/2bits"}

    def stop(_, __, what):
        if what.startswith("apot at 2 bits"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(m, net, calib, QUICK, scratch=tmp_path, progress=stop)
    kept = sorted(p.stem for p in tmp_path.rglob("*bits.safetensors"))
    assert kept == ["3bits", "4bits"]
    said = []
    resumed = quantize(
        m, net, calib, QUICK, scratch=tmp_path, progress=lambda *report: said.append(report[2])
    )
    assert resumed.digest == straight.digest
    # finished stages are not done again
    assert all(what.startswith("apot at 2 bits") for what in said)
    other = replace(m, lr=2 * m.lr)  # and never those of other settings
    assert (
        quantize(other, net, calib, QUICK, scratch=tmp_path).digest
        == quantize(other, net, calib, QUICK).digest
    )


def test_level_sets_are_compared_at_one_budget():
    from quantbench.claims.catalog import read_claims
    from quantbench.quantization.registry import make

    claims = [c for c in read_claims("apot") if "/here-trained" in c.id]
    assert {c.scheme.weights.bits for c in claims} == {2, 3, 4}
    for claim in claims:
        assert (
            make(claim.method, dict(claim.fields))
            == make(claim.rival.method, dict(claim.rival.fields))
            == SHORT
        )
