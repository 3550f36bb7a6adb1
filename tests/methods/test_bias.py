import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from quantbench.calibration import shift
from quantbench.conformance import check
from quantbench.errors import BadInput, Unsupported
from quantbench.methods.bias import BFT, IBC, BiasCorrection
from quantbench.methods.equalize import Equalize
from quantbench.methods.nearest import Nearest
from quantbench.network.activation_functions import following_functions
from quantbench.network.hooks import capture_input, capture_output
from quantbench.network.network import Network
from quantbench.optimization.bias_correction import draw
from quantbench.quantization.method import Job, Log, Pipeline, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.charts.shift import shifts

W3 = Scheme(Grid(3, range="minmax"))
W3A8 = Scheme(Grid(3, range="minmax"), Grid(8, symmetric=False, range="minmax"))
W3A8_INTEGER = Scheme(
    Grid(3, range="minmax"), Grid(8, symmetric=False, range="minmax"), placement="integer"
)


class Net(nn.Module):
    """ReLU6, depthwise, ReLU, an in-place residual add and a linear layer."""

    def __init__(self):
        super().__init__()
        self.a, self.bn, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6()
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.relu = nn.ReLU(inplace=True)
        self.c = nn.Conv2d(8, 8, 1)
        self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.act(self.bn(self.a(x)))
        y = self.c(self.relu(self.b(x)))
        y += x
        return self.fc(self.flat(self.pool(y)))


def seeded(seed=0, n=24):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Net()
        nn.init.normal_(model.bn.bias, 1.0, 2.0)
        model.bn.weight.data = torch.exp(torch.randn(8))
        return model.eval(), torch.randn(n, 3, 8, 8)


def nearest(scheme, seed=0):
    model, x = seeded(seed)
    net = Network.of(model, x[:2])
    job = Job(net, (x,), scheme, torch.Generator().manual_seed(seed))
    return Nearest().apply(job), x


def means(model, info, x, fa):
    z = fa(capture_output(model, info.name, (x,)))
    return z.mean((0, 2, 3)) if info.kind == "conv" else z.mean(0)


def slow_ibc(q, x, fa):
    """The definition: for each layer in order, run both networks anew up to it.

    The difference of means is added.
    """
    for info in q.infos:
        f = fa.get(info.name, lambda z: z)
        q.layer(info.name).bias.data += means(q.net.model, info, x, f) - means(q.model, info, x, f)


@pytest.mark.parametrize("scheme", [W3, W3A8, W3A8_INTEGER], ids=["w3", "inputs", "integer"])
@pytest.mark.parametrize("after", [False, True])
@settings(max_examples=5)  # of 6 combinations each
@given(seed=st.integers(0, 100))
def test_one_pass_is_the_definition(scheme, after, seed):
    job, x = nearest(scheme, seed)
    slow = copy.deepcopy(job.quantized)
    IBC(images=24, after_activation=after).correct(job, job.quantized)
    with torch.no_grad():
        slow_ibc(slow, x, following_functions(slow.net) if after else {})
    for a, b in zip(job.quantized.layers(), slow.layers(), strict=True):
        # The output is shifted in flight instead of computed with the new bias: rounding, which a
        # quantizer may amplify
        assert torch.allclose(a.bias, b.bias, atol=2e-3 * float(b.bias.abs().max())), a.info.name


def test_no_shift_is_left_on_the_images_that_were_used():
    job, x = nearest(W3A8)
    before = shift.measure(job.quantized, (x,))
    IBC(images=24, after_activation=False).apply(job)
    after = shift.measure(job.quantized, (x,))
    assert before["fc"].mssr > 0.05
    for name in before:
        # quantizers amplify rounding, see above
        assert after[name].mssr < 1e-3 * before[name].mssr + 1e-3
        assert after[name].share < 0.01


def test_uncorrected_predecessors_are_those_of_one_look():
    job, x = nearest(W3A8)
    start = copy.deepcopy(job.quantized)
    BiasCorrection(images=24).correct(job, job.quantized)
    with torch.no_grad():
        for layer in start.layers():
            delta = means(start.net.model, layer.info, x, lambda z: z) - means(
                start.model, layer.info, x, lambda z: z
            )
            assert torch.allclose(
                job.quantized.layer(layer.info.name).bias, layer.bias + delta, atol=1e-5
            )


def test_full_precision_predecessors_leave_a_layer_its_own_error():
    job, x = nearest(W3A8)
    start = copy.deepcopy(job.quantized)
    IBC(images=24, predecessors="full_precision", after_activation=False).correct(
        job, job.quantized
    )
    with torch.no_grad():
        for layer in start.layers():
            (inputs,) = capture_input(start.net.model, layer.info.name, (x,))
            own = layer(inputs).transpose(0, 1).flatten(1).mean(1)
            delta = means(start.net.model, layer.info, x, lambda z: z) - own
            assert torch.allclose(
                job.quantized.layer(layer.info.name).bias, layer.bias + delta, atol=1e-5
            )


@pytest.mark.parametrize("scheme", [W3A8, W3A8_INTEGER], ids=["inputs", "integer"])
@pytest.mark.parametrize("predecessors", ["corrected", "uncorrected", "full_precision"])
def test_without_quantized_activations_the_errors_of_weights_alone_are_corrected(
    scheme, predecessors
):
    job, _ = nearest(scheme)
    weights_alone, _ = nearest(scheme)
    for quantizer in weights_alone.quantized.act_quants().values():
        quantizer.enabled = False
    IBC(images=24, predecessors=predecessors).correct(weights_alone, weights_alone.quantized)
    IBC(images=24, predecessors=predecessors, quantized_acts=False).correct(job, job.quantized)
    for a, b in zip(job.quantized.layers(), weights_alone.quantized.layers(), strict=True):
        assert torch.equal(a.bias, b.bias)
    assert all(quantizer.enabled for quantizer in job.quantized.act_quants().values())
    full, _ = nearest(scheme)
    IBC(images=24, predecessors=predecessors).correct(full, full.quantized)
    pairs = zip(full.quantized.layers(), job.quantized.layers(), strict=True)
    # Quantizers of the integer network stand between layers, and a layer fed in full precision
    # meets none of them.
    meets_none = scheme is W3A8_INTEGER and predecessors == "full_precision"
    assert all(torch.equal(a.bias, b.bias) for a, b in pairs) == meets_none


def test_the_iterative_correction_leaves_less_shift_than_the_others():
    left = {}
    for predecessors in ("corrected", "uncorrected", "full_precision"):
        job, x = nearest(W3A8)
        IBC(images=24, predecessors=predecessors).correct(job, job.quantized)
        left[predecessors] = shift.measure(job.quantized, (x,))["fc"].mssr
    assert left["corrected"] < 0.05 * min(left["uncorrected"], left["full_precision"])


def test_corrections_change_biases_only():
    for method in (IBC(), BiasCorrection(images=8), BFT(images=24, epochs=1)):
        job, _ = nearest(W3A8)
        before = {k: v.clone() for k, v in job.quantized.tensors().items()}
        method.apply(job)
        after = job.quantized.tensors()
        assert {k for k in before if not torch.equal(before[k], after[k])} == {
            k for k in before if k.endswith(".bias")
        }


def kl(q, x):
    with torch.no_grad():
        student, teacher = q.model(x).log_softmax(-1), q.net.model(x).log_softmax(-1)
        return float(F.kl_div(student, teacher, log_target=True, reduction="batchmean"))


@pytest.mark.parametrize("scheme", [W3A8, W3A8_INTEGER], ids=["inputs", "integer"])
def test_fine_tuning_brings_the_networks_together(scheme):
    job, x = nearest(scheme)
    before = kl(job.quantized, x)
    BFT(images=0, epochs=30, batch_size=8).apply(job)
    assert kl(job.quantized, x) < 0.3 * before
    assert job.log.curves["bft"][-1] < job.log.curves["bft"][0]
    assert all(not p.requires_grad for p in job.quantized.model.parameters())


def test_fine_tuning_undoes_planted_biases():
    model, x = seeded(n=64)
    net = Network.of(model, x[:2])
    job = Job(net, (x,), Scheme(Grid(8, per_channel=True)), torch.Generator().manual_seed(0))
    q = Nearest().apply(job).quantized
    good = kl(q, x)
    q.layer("b").bias.data += 0.5 * torch.randn(8, generator=job.rng)
    bad = kl(q, x)
    BFT(images=0, epochs=60, lr=0.03).correct(job.done(q), q)
    assert good < 0.01 * bad
    assert kl(q, x) < 0.05 * bad


def test_equalization_before_and_rounding_of_any_kind_compose():
    model, x = seeded()
    net = Network.of(model, x[:2])
    log = Log()
    steps = (Equalize(), Nearest(), IBC(images=8), BFT(images=24, epochs=1))
    quantize(Pipeline(steps), net, x, W3A8, log=log)
    assert {"equalize", "nearest", "ibc", "bft"} <= set(log.seconds)
    assert (
        len(log.curves["shift/before/mssr"])
        == len(log.curves["shift/after/share"])
        == len(net.layers)
    )
    assert len(log.curves["shift/after/001 b"]) == 8
    assert log.numbers["shift/after/output_share"] == log.curves["shift/after/share"][-1]
    assert log.numbers["shift/after/growth"] == shift.growth(log.curves["shift/after/mssr"])
    rows = shifts({"run": log.curves}).spec["data"]["values"]
    assert [r["layer"] for r in rows] == [info.name for info in net.layers] * 2


def test_draws_are_nested_and_named_by_the_generator():
    x = (torch.arange(50.0)[:, None],)
    few, many = (draw(x, n, torch.Generator().manual_seed(3))[0] for n in (4, 20))
    assert torch.equal(few, many[:4])
    assert not torch.equal(few, draw(x, 4, torch.Generator().manual_seed(4))[0])


def test_too_few_images_and_a_missing_network_are_refused():
    job, x = nearest(W3A8)
    with pytest.raises(BadInput, match="64 images, and the calibration set has 24"):
        IBC(images=64).apply(job)
    with pytest.raises(Unsupported, match="needs a quantized network"):
        quantize(IBC(), job.net, x, W3A8)


@pytest.mark.parametrize("wrong", [{"images": 0}, {"predecessors": "none"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadInput):
        IBC(**wrong)
    with pytest.raises(BadInput):
        BFT(epochs=0)


def test_measure_against_brute_force():
    job, x = nearest(W3A8)
    q = job.quantized
    found = shift.measure(q, (x,), batch_size=7)
    with torch.no_grad():
        for name in ("b", "fc"):
            z, z_q = (
                capture_output(m, name, (x,)).transpose(0, 1).flatten(1).double()
                for m in (q.net.model, q.model)
            )
            d, layer = z_q - z, found[name]
            assert torch.allclose(layer.shift, d.mean(1))
            assert torch.allclose(layer.noise, d.square().mean(1))
            assert torch.allclose(layer.signal, z.var(1, unbiased=False))
            assert layer.mssr == pytest.approx(
                float((d.mean(1).square().sum() / z.var(1, unbiased=False).sum()).sqrt())
            )
            assert layer.share == pytest.approx((layer.mssr / layer.rqnsr) ** 2)


def test_a_planted_constant_is_all_shift():
    model, x = seeded()
    q = Quantized(Network.of(model, x[:2]), W3)
    q.layer("fc").bias.data += 1.0
    found = shift.measure(q, (x,))
    assert found["fc"].share == pytest.approx(1.0, abs=1e-6)
    assert found["c"].share == 0.0
    assert found["c"].rqnsr == 0.0


def test_means_are_compared_behind_activation_functions_unless_asked_otherwise():
    assert IBC().after_activation
    assert not BiasCorrection().after_activation


@pytest.mark.parametrize("after", [True, False])
def test_a_correction_before_and_behind_activation_functions_conforms(after):
    check(IBC(after_activation=after))
