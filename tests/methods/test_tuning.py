from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantbench.errors import BadInput, Unsupported
from quantbench.latency.layers import measured
from quantbench.methods import allocation
from quantbench.methods.adaquant import AdaQuant
from quantbench.methods.allocation import Allocate
from quantbench.methods.nearest import Nearest
from quantbench.methods.pipelines import Advanced, Light
from quantbench.methods.tuning import BatchNormTuning, BiasTuning, Norm
from quantbench.network.hooks import capture_output
from quantbench.network.network import Network
from quantbench.optimization.distance import distance
from quantbench.optimization.mixed_bits import swapped, uniform
from quantbench.quantization.method import Job, Log, Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme

GRID = Grid(4, symmetric=False, per_channel=True)
W4A4 = Scheme(GRID, Grid(4, symmetric=False))
W8A8 = uniform(W4A4, (8, 8))

BY_LABELS = {"measure": "cross_entropy", "labelled": "shapes/calib"}


def network(*, batch_norm=True):
    """Three convolutions and a classifier with uneven channels, and 24 examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d if batch_norm else lambda _: nn.Identity()
        layers = [nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(8), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, 5))
        x = torch.randn(24, 3, 8, 8)
        model.train()
        for _ in range(20):
            model(x)  # batch norm learns the statistics that it has here
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.weight, 0.5, 2.0)
                nn.init.uniform_(m.bias, -0.5, 0.5)
    return Network.of(model.eval(), x[:2]), x


@pytest.mark.parametrize("batch_norm", [True, False])
def test_batch_norm_tuning_gives_every_channel_its_full_precision_statistics(batch_norm):
    net, x = network(batch_norm=batch_norm)
    q = quantize(Pipeline((Nearest(), BatchNormTuning())), net, x, W4A4)
    names = list(net.batch_norm) or [i.name for i in net.layers]
    assert len(names) == (2 if batch_norm else 3)
    for name in names:
        y = capture_output(q.fake(), name, (x,)).movedim(1, 0).flatten(1)
        if batch_norm:
            mean, std = net.batch_norm[name].mean, net.batch_norm[name].std
        else:
            full = capture_output(net.model, name, (x,)).movedim(1, 0).flatten(1)
            mean, std = full.mean(1), full.std(1, correction=0)
        assert torch.allclose(y.mean(1), mean, atol=1e-4)  # float sums
        # eps of batch norm
        assert torch.allclose(y.std(1, correction=0), std, rtol=1e-3, atol=1e-3)


def test_batch_norm_tuning_keeps_the_codes():
    net, x = network()
    before = quantize(Nearest(), net, x, W4A4)
    after = quantize(Pipeline((Nearest(), BatchNormTuning())), net, x, W4A4)
    for a, b in zip(before.layers(), after.layers(), strict=True):
        assert torch.equal(a.codes, b.codes)
        assert torch.equal(a.qparams.zero, b.qparams.zero)
        assert torch.equal(a.qparams.scale, b.qparams.scale) == (a.info.name not in net.batch_norm)


def test_small_momentum_stays_near_full_precision_and_batches_average():
    net, x = network()
    q = quantize(Nearest(), net, x, W4A4)
    still = quantize(Pipeline((Nearest(), BatchNormTuning(momentum=0.0))), net, x, W4A4)
    for a, b in zip(q.layers(), still.layers(), strict=True):
        assert torch.allclose(a.weight, b.weight, rtol=1e-5)
        assert torch.allclose(a.bias, b.bias, atol=1e-5)


def test_per_tensor_weights_cannot_take_tuned_statistics():
    net, x = network()
    with pytest.raises(Unsupported, match="per-channel"):
        quantize(Pipeline((Nearest(), BatchNormTuning())), net, x, Scheme(Grid(4)))


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_bias_tuning_moves_biases_alone_and_beats_the_best_last_bias(loss):
    """All biases together come closer than the optimum over the last layer's alone."""
    net, x = network()
    log = Log()
    before = quantize(Nearest(), net, x, W4A4)
    tuning = BiasTuning(epochs=20, loss=loss, classifier=True)
    after = quantize(Pipeline((Nearest(), tuning)), net, x, W4A4, log=log)
    with torch.no_grad():
        outputs, target = [q.fake()(x) for q in (before, after)], net.model(x)
    away = [float(distance(loss)(y, target)) for y in outputs]
    assert (
        away[1]
        < float(distance(loss)(outputs[0] + best_shift(loss, outputs[0], target), target))
        < away[0]
    )
    # found: 0.80 and 0.61; the last bias: 0.85 and 0.88
    assert away[1] < {"kl": 0.85, "mse": 0.65}[loss] * away[0]
    assert len(log.curves["bias-tuning"]) == 20
    for a, b in zip(before.layers(), after.layers(), strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.bias, b.bias)
        assert not b.bias.requires_grad


def test_bias_tuning_leaves_the_classifiers_bias_where_there_is_a_classifier():
    net, x = network()
    before = list(quantize(Nearest(), net, x, W4A4).layers())
    for tuning, trained in (
        (BiasTuning(epochs=1), [True, True, False]),
        (BiasTuning(epochs=1, loss="mse"), [True, True, True]),
        (BiasTuning(epochs=1, classifier=True), [True, True, True]),
    ):
        after = quantize(Pipeline((Nearest(), tuning)), net, x, W4A4).layers()
        moved = [not torch.equal(a.bias, b.bias) for a, b in zip(before, after, strict=True)]
        assert moved == trained
    alone = Network.of(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), x[:2])
    with pytest.raises(Unsupported, match="no other layer"):
        quantize(Pipeline((Nearest(), BiasTuning())), alone, x, W4A4)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 20), st.integers(0, 2**31))
def test_batches_of_a_round_are_of_a_fresh_shuffle(images, batches, size, seed):
    tuning, rng = BiasTuning(batches=batches, batch_size=size), torch.Generator().manual_seed(seed)
    first, second = (torch.cat(tuple(tuning.drawn(images, rng))) for _ in range(2))
    for drawn in (first, second):
        assert len(drawn) == min(images, batches * size)
        assert len(drawn.unique()) == len(drawn)
        assert 0 <= int(drawn.min()) <= int(drawn.max()) < images
    assert images < 20 or not torch.equal(first, second)
    fixed = torch.cat(tuple(BiasTuning(8, batches, size, shuffled=False).drawn(images, rng)))
    assert torch.equal(fixed, torch.arange(len(fixed)))


def test_running_statistics_are_those_of_torchs_batch_norm():
    beta, std = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.5])
    ours, theirs = Norm(beta, std, 0.1, image=True), nn.BatchNorm2d(2, momentum=0.1)
    theirs.running_mean, theirs.running_var = beta.clone(), std.square()
    theirs.weight.data, theirs.bias.data = ours.gamma, beta
    for seed in range(3):
        y = 3 * torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) + 1
        assert torch.allclose(ours.see(y), theirs(y), atol=1e-5)
    assert torch.allclose(ours.mean, theirs.running_mean)
    assert torch.allclose(ours.var, theirs.running_var)


def best_shift(loss, output, target):
    """(classes,) what to add to the outputs: a convex problem, solved by a second-order method."""
    shift = torch.zeros(output.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        # past the solver's absolute tolerances
        value = 1e3 * distance(loss)(output + shift, target)
        value.backward()
        return value

    solver.step(closure)
    return shift.detach()


def test_distances_by_hand():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(distance("accuracy")(a, b)) == 0.5
    assert float(distance("mse")(a, b)) == 0.75
    p, q = b.softmax(-1), a.softmax(-1)
    assert float(distance("kl")(a, b)) == pytest.approx(float((p * (p / q).log()).mean()), rel=1e-5)
    with pytest.raises(BadInput, match="choose"):
        distance("cosine")


def test_allocation_measures_one_layer_at_a_time_and_keeps_its_size():
    net, x = network()
    log = Log()
    q = quantize(Allocate(size=0.15), net, x, W8A8, log=log)
    bits = {o.layer: (o.weights, o.acts) for o in q.scheme.overrides}
    total = sum(i.params for i in net.layers)
    assert sum(i.params * bits[i.name][0] for i in net.layers) <= 0.15 * 32 * total
    assert {4, 8} == {w for w, _ in bits.values()}
    at = {b: quantize(Nearest(), net, x, uniform(W8A8, (b, b))) for b in (4, 8)}
    for layer in q.layers():
        w, a = bits[layer.info.name]
        same = at[w].layer(layer.info.name)
        assert torch.equal(layer.codes, same.codes)
        assert torch.equal(layer.act.scale, same.act.scale)
        assert w == a
    with torch.no_grad():
        target, away = net.model(x), distance("kl")
        base, loss = away(at[8].model(x), target), 0.0
        for name, (w, _) in bits.items():
            with swapped(at[8], at[w], name):
                delta = max(float(away(at[8].model(x), target) - base), 1e-6)
            loss += delta if w < 8 else 0.0
    assert log.numbers["allocation/loss"] == pytest.approx(loss, rel=1e-3, abs=1e-7)
    # proven optimal
    assert log.numbers["allocation/bound"] == pytest.approx(log.numbers["allocation/loss"])
    assert log.numbers["allocation/gap"] == 0
    assert log.numbers["allocation/optimal"] == 1
    assert log.curves["front/cost"] == sorted(log.curves["front/cost"], reverse=True)
    assert log.curves["front/loss"] == sorted(log.curves["front/loss"])
    assert log.curves["front/gap"] == [0.0] * len(log.curves["front/cost"])


def test_eight_bits_cost_nothing_and_all_else_something():
    net, x = network()
    log = Log()
    q = quantize(Allocate(size=0.25, points=0), net, x, W8A8, log=log)
    assert {o.weights for o in q.scheme.overrides} == {8}
    assert log.numbers["allocation/loss"] == 0.0


def test_sensitivities_by_labels_are_the_cross_entropy_of_labelled_images():
    from quantbench.tasks.images import labelled
    from quantbench.tasks.registry import task

    here = task("shapes/resnet8", "shapes/test")
    net, calib = here.network(), here.calibration("shapes/calib", 16, 0)
    method, log = Allocate(size=0.16, points=0, examples=96, **BY_LABELS), Log()
    q = quantize(method, net, calib, W8A8, log=log)
    bits = {o.layer: o.weights for o in q.scheme.overrides}
    assert set(bits.values()) == {4, 8}
    seen = labelled("shapes/resnet8", "shapes/calib", 96)
    x, y = seen.preprocess(seen.x), torch.from_numpy(seen.y).long()
    at = {b: quantize(Nearest(), net, calib, uniform(W8A8, (b, b))) for b in (4, 8)}
    with torch.no_grad():
        base, loss = nn.functional.cross_entropy(at[8].model(x), y), 0.0
        for name in (name for name, w in bits.items() if w == 4):
            with swapped(at[8], at[4], name):
                lost = nn.functional.cross_entropy(at[8].model(x), y) - base
                loss += max(float(lost), 1e-6)
    assert log.numbers["allocation/loss"] == pytest.approx(loss, rel=1e-3, abs=1e-6)


def test_layers_calibrated_anew_are_those_of_the_mixed_scheme():
    net, x = network()
    again = AdaQuant(iterations=2, lr_weights=1e-2)
    q = quantize(Allocate(size=0.15, anew=again, points=0), net, x, W8A8, seed=5)
    assert {o.weights for o in q.scheme.overrides} == {4, 8}
    assert q.digest == quantize(again, net, x, q.scheme, seed=5).digest
    assert q.digest != quantize(Allocate(size=0.15, points=0), net, x, W8A8, seed=5).digest


@pytest.mark.parametrize(
    "options", [{"gain": "bops", "size": 0.05}, {"form": "max_gain", "loss_limit": 0.02}]
)
def test_the_other_forms_and_gains(options):
    net, x = network()
    q = quantize(
        Allocate(weights=(2, 4, 8), acts=(4, 8), measure="mse", points=0, **options), net, x, W8A8
    )
    assert len(q.scheme.overrides) == len(net.layers)
    assert min(o.weights for o in q.scheme.overrides) < 8


def test_latency_is_a_gain(monkeypatch):
    """With a table of times in place of measured ones.

    The cost of a choice is the time of its layer at its bits.
    """
    net, x = network()
    times = {
        bits: {info.name: 0.1 * bits * (i + 1) for i, info in enumerate(net.layers)}
        for bits in (4, 8)
    }
    monkeypatch.setattr(allocation, "measured", lambda _, bits: times[bits[0]])
    log = Log()
    q = quantize(Allocate(gain="latency", size=0.7), net, x, W8A8, log=log)
    chosen = {o.layer: o.weights for o in q.scheme.overrides}
    spent = sum(times[bits][name] for name, bits in chosen.items())
    assert set(chosen.values()) == {4, 8}
    assert log.numbers["allocation/cost"] == pytest.approx(spent)
    assert spent <= 0.7 * sum(times[8].values())
    with pytest.raises(BadInput, match="smallest feasible"):
        quantize(Allocate(gain="latency", size=0.4), net, x, W8A8)


def test_latencies_are_measured_on_the_integer_kernels():
    net, x = network()
    job = Job(net, (x,), W8A8, torch.Generator())
    found = measured(job, (8, 8))
    assert found.keys() == {i.name for i in net.layers}
    assert all(ms > 0 for ms in found.values())


def test_an_impossible_size_names_the_smallest():
    net, x = network()
    with pytest.raises(BadInput, match="smallest feasible"):
        quantize(Allocate(size=0.1), net, x, W8A8)


@pytest.mark.parametrize(
    "options",
    [
        {"gain": "speed"},
        {"form": "dual"},
        {"measure": "cosine"},
        {"weights": ()},
        {"measure": "cross_entropy"},
        {"labelled": "shapes/calib"},
    ],
)
def test_unknown_words_are_refused(options):
    with pytest.raises(BadInput):
        Allocate(**options)


def test_which_step_is_in_which_pipeline():
    light, advanced = Light().pipeline().steps, Advanced(iterations=7).pipeline().steps
    assert [type(s) for s in light] == [Allocate, BatchNormTuning]
    assert [type(s) for s in advanced] == [Allocate, BatchNormTuning, BiasTuning]
    assert isinstance(light[0].rounding, Nearest)
    assert advanced[0].rounding == AdaQuant(iterations=7, sequential=False)
    assert advanced[0].anew is None


def test_what_the_options_of_a_pipeline_change():
    options = {"iterations": 7, "relearn": True, "sequential": True, "momentum": 0.1, "epochs": 0}
    steps = Advanced(**options, **BY_LABELS).pipeline().steps
    again = AdaQuant(iterations=7, sequential=True)
    program = Allocate(rounding=again, anew=again, **BY_LABELS)
    assert steps == (program, BatchNormTuning(momentum=0.1))
    assert Light(**BY_LABELS).pipeline().steps[0] == Allocate(**BY_LABELS)
    assert Advanced(measure="mse").pipeline().steps[-1] == BiasTuning(loss="mse")


def test_a_limit_on_bit_operations_narrows_activations_where_one_on_size_does_not():
    net, x = network()
    acts = {}
    for gain, size in (("size", 0.125), ("bops", 0.02)):  # 0.02 is below 8 by 4 bits in every layer
        q = quantize(Light(weights=(4, 8), acts=(4, 8), gain=gain, size=size), net, x, W8A8)
        acts[gain] = [o.acts for o in q.scheme.overrides]
        spent = sum(net.layer(o.layer).macs * o.weights * o.acts for o in q.scheme.overrides)
        assert gain == "size" or spent <= size * 1024 * sum(info.macs for info in net.layers)
    assert set(acts["size"]) == {8}
    assert 4 in acts["bops"]


def test_pipelines_give_the_same_bits_again():
    net, x = network()
    for method in (Light(size=0.2), Advanced(size=0.2, iterations=2, epochs=1)):
        first, second = (quantize(method, net, x, W8A8, seed=1) for _ in range(2))
        assert first.digest == second.digest
