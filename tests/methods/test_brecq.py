"""Block reconstruction: error weights against autograd, steps against a closed form, drops."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F

from quantbench.calibration.walk import Walk
from quantbench.errors import BadInput, Unsupported
from quantbench.methods import brecq
from quantbench.methods.brecq import BRECQ, CODE_BATCH
from quantbench.methods.nearest import Nearest
from quantbench.methods.qdrop import Drops, QDrop
from quantbench.network.hooks import capture_output
from quantbench.network.network import Network
from quantbench.optimization.units import units
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.quantization.straight_through import fake_unless
from tests.helpers.small import small

W2 = Scheme(Grid(2, per_channel=True), first_last_bits=8)
W2A4 = Scheme(Grid(2, per_channel=True), Grid(4, symmetric=False), first_last_bits=8)
QUICK = {"iterations": 60, "lr": 0.03, "act_iterations": 30, "act_lr": 1e-3}


LOSSES = ("fisher", "mse", "fisher_damped", "divergence")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def error(q, net, x):
    return float((q.fake()(x) - net.model(x)).square().mean())


# ---- The weights of the error
# ----------------------------------------------------------------------


def coarse(net, layer_names):
    """A quantized network whose first layers are rounded to nearest."""
    q = Quantized(net, W2)
    for name in layer_names:
        layer = q.layer(name)
        step = layer.original.abs().max() / 2
        layer.weight = (layer.original / step).round() * step
    return q


def at_block_one():
    """A network, 70 images, and a walk that stands before block one.

    Everything to the block's end is quantized.
    """
    net, x = small(70)
    q = coarse(net, ["stem", "one.a", "one.b"])
    unit = units(q, "block")[1]
    walk = Walk(q, (x,), asymmetric=True)
    walk.to(unit.layers[0])
    return net, x, q, walk, unit


def jacobian_at_block_one(model, x):
    """Another way: z as the argument of the rest, one example's Jacobian at a time; the logits."""
    z = model.one(model.relu(model.stem(x)))
    rest = nn.Sequential(model.two, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc)
    parameters = dict(rest.named_parameters())
    jacobian = vmap(jacrev(lambda one: functional_call(rest, parameters, (one.unsqueeze(0),))[0]))(
        z
    )
    return rest(z).detach(), jacobian


def test_fisher_is_the_information_of_the_full_precision_network():
    net, x, _, walk, unit = at_block_one()
    logits, jacobian = jacobian_at_block_one(net.model, x)
    p = logits.softmax(1)
    log_p = jacobian - torch.einsum("nk,nkchw->nchw", p, jacobian).unsqueeze(1)  # d log p_y / dz
    want = torch.einsum("nk,nkchw->nchw", p, log_p.square())
    found = BRECQ(draws=2000).gradients(walk, unit, rng()).take(slice(0, 70)).square()
    want = want / want.mean()
    # 2,000 signs: a relative error of sqrt(2 / 2,000) at most
    assert float((found - want).abs().mean()) < 0.05
    assert torch.corrcoef(torch.stack([found.flatten(), want.flatten()]))[0, 1] > 0.99
    same = [BRECQ().gradients(walk, unit, rng(3)).take(slice(0, 70)) for _ in range(2)]
    assert torch.equal(*same)


def test_a_layer_on_its_own_is_weighted_behind_its_activation_function():
    net, x = small(20)
    q = Quantized(net, W2)
    walk, unit = Walk(q, (x,), asymmetric=True), units(q, "layer")[1]
    assert (unit.stop, unit.activation) == ("one.a", "relu")
    model = net.model
    before = model.relu(model.stem(x))
    y = F.relu(model.one.a(before)).detach().requires_grad_()  # what one.b reads
    logits = model.fc(model.two(model.one.out(model.one.b(y) + before)).mean((2, 3)))
    p = logits.detach().softmax(1)
    want = sum(
        p[:, c].view(-1, 1, 1, 1)
        * torch.autograd.grad(logits.log_softmax(1)[:, c].sum(), y, retain_graph=True)[0].square()
        for c in range(p.shape[1])
    )
    found = BRECQ(draws=2000).gradients(walk, unit, rng()).take(slice(0, 20)).square()
    assert float((y == 0).float().mean()) > 0.3
    # an output that should be zero costs something when it is not
    assert float(found[y == 0].mean()) > 0
    assert float((found - want / want.mean()).abs().mean()) < 0.05


def test_the_code_takes_the_gradients_of_the_divergence():
    net, x, q, walk, unit = at_block_one()
    logits, jacobian = jacobian_at_block_one(q.model, x)
    difference = logits.softmax(1) - net.model(x).softmax(1)  # dKL/dlogits = q - p
    want = torch.einsum("nk,nkchw->nchw", difference, jacobian).abs()
    damped = BRECQ(loss="fisher_damped").gradients(walk, unit, rng()).take(slice(0, 70))
    torch.testing.assert_close(damped, want / CODE_BATCH + 1, rtol=1e-4, atol=1e-6)
    plain = BRECQ(loss="divergence").gradients(walk, unit, rng()).take(slice(0, 70))
    torch.testing.assert_close(plain, want / want.square().mean().sqrt(), rtol=1e-3, atol=1e-4)
    # so that lambda keeps its meaning
    assert float(plain.square().mean()) == pytest.approx(1, rel=1e-4)


def test_the_codes_gradient_is_taken_before_the_unit_is_rounded(monkeypatch):
    net, x = small()
    off, gradients = {}, BRECQ.gradients

    def spy(method, walk, unit, rng):
        for name in unit.layers:
            layer = walk.before.model.get_submodule(name)
            scale = brecq.weight_range(q, layer, (x,)).scale
            off[method.loss, name] = float(((layer.weight - layer.original) / scale).abs().mean())
        return gradients(method, walk, unit, rng)

    monkeypatch.setattr(BRECQ, "gradients", spy)
    scheme = Scheme(Grid(4, per_channel=True, range="minmax"))  # which clips nothing
    q = Quantized(net, scheme)
    for loss in ("fisher_damped", "divergence"):
        quantize(BRECQ(loss=loss, iterations=1), net, x, scheme)
    # h(V) = W/s - floor(W/s), so W~ = W but for h that is kept off 0 and 1; rounded, 1/4 on average
    assert off["fisher_damped", "one.a"] < 1e-3
    assert off["divergence", "one.a"] > 0.2


def test_activations_are_learnt_with_one_walk_in_memory(monkeypatch):
    alive = weakref.WeakSet()

    class Counted(Walk):
        def __init__(self, *args, **kwargs):
            gc.collect()
            assert not alive
            super().__init__(*args, **kwargs)
            alive.add(self)

    monkeypatch.setattr(brecq, "Walk", Counted)
    net, x = small()
    quantize(
        BRECQ(iterations=2, act_iterations=2), net, x, Scheme(Grid(3), Grid(4, symmetric=False))
    )


def test_the_loss_decides_what_is_learnt():
    net, x = small()
    logs = {loss: Log() for loss in LOSSES}
    digests = [
        quantize(BRECQ(iterations=40, lr=0.05, loss=k), net, x, W2, log=log).digest
        for k, log in logs.items()
    ]
    assert digests[0] != digests[1]
    first = [log.curves["one"][0] for log in logs.values()]
    assert len(set(first)) == 4
    # |g| / 32 + 1 is hardly more than 1, so the code's is near MSE
    assert first[2] == pytest.approx(first[1], rel=0.1)


@pytest.mark.filterwarnings("ignore:.*no known blocks")
def test_fisher_needs_classes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net = Network.of(model, torch.zeros(2, 3, 5, 5))
    x = torch.randn(8, 3, 5, 5, generator=rng())
    with pytest.raises(Unsupported, match=r"no class scores.*choose loss='mse'"):
        quantize(BRECQ(), net, x, W2)
    quantize(BRECQ(loss="mse", iterations=2), net, x, W2)


# ---- Step sizes of activations
# ---------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_gradient_of_a_step_size(symmetric):
    act = ActQuant(Grid(3, symmetric=symmetric, range="minmax"))
    x = 2 * torch.randn(500, generator=rng())
    act.observe()
    act(x / 2)  # so that a part of x lies outside
    act.finish()
    act.scale.requires_grad_()
    act.zero = torch.tensor(2.0) if not symmetric else act.zero
    up = torch.randn(500, generator=rng(1))
    (act(x) * up).sum().backward()
    s, z = act.scale.detach(), act.zero
    low, high = act.levels[0] - z, act.levels[-1] - z
    v = x / s
    # Esser et al. 2020, eq. 3: round(v) - v inside, the bound itself outside
    slope = torch.where(v <= low, low, torch.where(v >= high, high, v.round() - v))
    torch.testing.assert_close(act.scale.grad, (slope * up).sum())


def test_weights_come_first_then_step_sizes():
    net, x = small()
    log = Log()
    method = BRECQ(**QUICK)
    q = quantize(method, net, x, W2A4, log=log)
    only_weights = quantize(method, net, x, W2)
    for a, b in zip(q.layers(), only_weights.layers(), strict=True):
        assert torch.equal(a.codes, b.codes)  # activations do not enter into the rounding
    assert list(log.curves) == ["one", "two", "fc", "acts/stem", "acts/one", "acts/two", "acts/fc"]
    still = quantize(BRECQ(**QUICK | {"act_lr": 0.0}), net, x, W2A4)
    steps = [{n: float(a.scale) for n, a in found.act_quants().items()} for found in (q, still)]
    assert steps[0].keys() == {f"{i.name}.act" for i in net.layers}
    assert all(steps[0][n] != steps[1][n] for n in steps[0])
    # over all images: single batches differ by more than what is learnt
    for name in ("one", "two"):
        off = [
            (capture_output(m.fake(), name, (x,)) - capture_output(net.model, name, (x,))).abs()
            for m in (q, still)
        ]
        assert off[0].pow(method.act_p).mean() < off[1].pow(method.act_p).mean()


def test_step_sizes_may_be_learnt_on_quantized_inputs():
    net, x = small()
    two = [quantize(BRECQ(**QUICK, act_asymmetric=a), net, x, W2A4) for a in (False, True)]
    assert two[0].digest != two[1].digest
    assert all(
        torch.equal(a.codes, b.codes) for a, b in zip(*(q.layers() for q in two), strict=True)
    )


# ---- Granularity
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["layer", "block", "stage", "network"])
def test_every_granularity_beats_nearest(granularity):
    net, x = small()
    log = Log()
    method = BRECQ(iterations=120, lr=0.02, loss="mse", granularity=granularity)
    q = quantize(method, net, x, W2, log=log)
    nearest = quantize(Nearest(), net, x, W2)
    assert error(q, net, x) < 0.6 * error(nearest, net, x)  # found: 0.12 to 0.41
    stops = {"layer": 5, "block": 3, "stage": 2, "network": 1}[granularity]
    # the 8-bit stem is rounded to nearest
    assert len([n for n in log.numbers if n.startswith("objective/")]) == stops
    if granularity != "network":
        assert torch.equal(q.layer("stem").codes, nearest.layer("stem").codes)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def forward(self, x):
        x = self.a(x)
        y = self.b(x)
        y += x
        return self.fc(y.relu_().mean((2, 3)))


@pytest.mark.parametrize("loss", ["fisher", "divergence"])
def test_what_follows_a_layer_may_overwrite_its_output(loss):
    x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    net = Network.of(InPlace().eval(), x[:2])
    method = BRECQ(granularity="layer", loss=loss, iterations=3)
    assert quantize(method, net, x, Scheme(Grid(3))).digest


@pytest.mark.parametrize(
    "method",
    [BRECQ(iterations=1, act_iterations=30, act_lr=1.0), QDrop(iterations=30, act_lr=1.0)],
    ids=lambda m: m.name,
)
def test_step_sizes_stay_positive(method):
    net, x = small()
    q = quantize(method, net, x, W2A4)
    assert all(float(act.scale) > 0 for act in q.act_quants().values())


def test_unknown_variants_are_refused():
    with pytest.raises(BadInput, match="granularity 'net': choose layer, block, stage, network"):
        BRECQ(granularity="net")
    with pytest.raises(BadInput, match="loss 'kl'"):
        BRECQ(loss="kl")
    with pytest.raises(BadInput, match=r"probability of 1\.5"):
        QDrop(probability=1.5)
    with pytest.raises(BadInput, match="start 'random'; choose full_precision or nearest"):
        QDrop(start="random")
    for method in (QDrop, BRECQ):
        with pytest.raises(BadInput, match="ranges from -1 images"):
            method(range_images=-1)


# ---- QDrop
# -----------------------------------------------------------------------------------------


def test_drops_are_as_frequent_as_asked():
    full, quantized = torch.ones(200, 200), torch.zeros(200, 200)
    for p in (0.0, 0.3, 1.0):
        kept = Drops(p, rng()).mixed(quantized, full).mean()
        # four standard errors
        assert float(kept) == pytest.approx(p, abs=4 * (p * (1 - p)) ** 0.5 / 200)


def test_drops_keep_the_memory_layout():
    full = torch.rand(2, 16, 5, 9, generator=rng()).contiguous(memory_format=torch.channels_last)
    mixed = Drops(0.5, rng()).mixed(full * 2, full)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def ranged(bits=2):
    """A quantizer that has its range, and values within it."""
    act, x = (
        ActQuant(Grid(bits, symmetric=False, range="minmax")),
        torch.rand(1000, generator=rng()),
    )
    act.observe()
    act(x)
    act.finish()
    return act, x


def test_quantizers_drop_only_while_they_are_told_to():
    act, x = ranged()
    quantized = act(x)
    with Drops(1.0, rng()).within([act]):
        assert torch.equal(act(x), x)
    with Drops(0.5, rng()).within([act]):
        mixed = act(x)
        share = float((mixed == x).float().mean())
    assert 0.4 < share < 0.6
    assert ((mixed == x) | (mixed == quantized)).all()
    assert torch.equal(act(x), quantized)


def test_what_a_unit_starts_from_is_dropped_once():
    act, x = ranged()
    behind = x + 0.2  # what quantized predecessors give
    drops = Drops(0.5, rng())
    with drops.within([act]):
        mixed = drops.mixed(behind, x)
        kept = mixed == x
        assert torch.equal(act(mixed), torch.where(kept, x, act.qparams.fake(behind)))
        other = act(mixed.clone())  # of another tensor it draws its own
    assert not torch.equal(other == mixed, kept)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_drop_is_a_choice_between_a_value_and_its_quantized_one(symmetric):
    act = ActQuant(Grid(3, symmetric=symmetric, range="minmax"))
    x = (2 * torch.randn(500, generator=rng())).requires_grad_()
    act.observe()
    act(x.detach() / 2)  # so that a part of x lies outside
    act.finish()
    act.scale.requires_grad_()
    kept, up = (torch.rand(500, generator=rng(i)) < 0.5 for i in (1, 2))
    levels = act.levels[0], act.levels[-1]
    both = (
        fake_unless(kept.float(), x, act.scale, act.zero, *levels),
        torch.where(kept, x, act.qparams.fake(x)),
    )
    assert torch.equal(*both)
    found = [torch.autograd.grad((z * up).sum(), (x, act.scale)) for z in both]
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_lsqs_gradient_is_scaled_by_values_and_codes():
    act, x = ranged(3)
    act.scale.requires_grad_()
    gradients = []
    for lsq in (False, True):
        act.scale.grad = None
        with Drops(0.0, rng(), lsq_gradient=lsq).within([act]):
            act(x).square().sum().backward()
        gradients.append(act.scale.grad)
    # Esser et al. 2020, section 2.2
    torch.testing.assert_close(gradients[1], gradients[0] / (1000 * 7) ** 0.5)


def full_precision_steps(net, x, scheme=W2A4):
    """Step sizes as they are found with weights in full precision."""
    q = Quantized(net, scheme)
    q.calibrate_acts((x,))
    return {name: act.scale for name, act in q.act_quants().items()}


def test_everything_dropped_leaves_activations_alone():
    net, x = small()
    q = quantize(QDrop(iterations=20, lr=0.03, act_lr=1e-2, probability=1.0), net, x, W2A4)
    first = full_precision_steps(net, x)
    assert all(torch.equal(a.scale, first[n]) for n, a in q.act_quants().items())
    learnt = quantize(QDrop(iterations=20, lr=0.03, act_lr=1e-2, probability=0.5), net, x, W2A4)
    assert all(not torch.equal(a.scale, first[n]) for n, a in learnt.act_quants().items())


def test_first_steps_are_of_the_weights_and_images_that_are_asked_for():
    net, x = small()
    still = {"iterations": 1, "act_lr": 0.0}
    nearest = quantize(Nearest(), net, x, W2A4).act_quants()
    q = quantize(QDrop(start="nearest", **still), net, x, W2A4)
    assert all(torch.equal(a.scale, nearest[n].scale) for n, a in q.act_quants().items())
    few = quantize(QDrop(range_images=8, **still), net, x, W2A4)
    want = full_precision_steps(net, x[:8])
    assert all(torch.equal(a.scale, want[n]) for n, a in few.act_quants().items())


def test_qdrop_beats_nearest_and_needs_activations():
    net, x = small()
    found = [
        error(quantize(QDrop(iterations=120, lr=0.03), net, x, W2A4, seed=seed), net, x)
        for seed in range(3)
    ]
    # these: 0.14 to 0.21
    assert sum(found) / 3 < 0.4 * error(quantize(Nearest(), net, x, W2A4), net, x)
    with pytest.raises(Unsupported, match="w2 has none"):
        quantize(QDrop(), net, x, W2)
