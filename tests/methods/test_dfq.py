import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn
from torch.nn import functional as F

from quantbench.calibration.channel_statistics import output_statistics
from quantbench.conformance import check
from quantbench.errors import BadInput, Unsupported
from quantbench.methods.bn_ranges import BatchNormRanges
from quantbench.methods.dfq import (
    DFQ,
    AbsorbBias,
    AnalyticCorrection,
    clipped_mean,
    expected_inputs,
)
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import Job, Log, Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.separable import W8A8, Branches, Separable, close, seeded


def test_absorption_is_exact_where_the_channel_stays_above_c():
    model, x = seeded(Separable)
    model.bn2.bias.data = torch.full((8,), 4.0)
    model.bn2.weight.data = torch.full((8,), 0.1)
    # so narrow that every value is above beta - 3 gamma, and below 6
    model.bn2.running_var.fill_(1e4)
    net = Network.of(model, x[:2])
    log = Log()
    after = AbsorbBias().apply(Job(net, (x,), W8A8, torch.Generator(), log=log)).net
    assert close(after.model(x), net.model(x), 1e-5)
    assert torch.allclose(after.model.act2.high, torch.full((8,), 6 - 3.7))
    assert torch.allclose(net.model.depth.bias - after.model.depth.bias, torch.full((8,), 3.7))
    assert torch.equal(after.model.full.bias, net.model.full.bias)  # read with padding: left alone
    assert log.numbers["absorb_bias/channels"] >= 8


@given(
    mean=st.floats(-4, 8),
    std=st.floats(0.05, 4),
    low=st.sampled_from([-math.inf, -1.0, 0.0]),
    width=st.sampled_from([2.0, 6.0, math.inf]),
)
def test_clipped_mean_against_numerical_integration(mean, std, low, width):
    high = (low if math.isfinite(low) else 0.0) + width
    ours = float(clipped_mean(*(torch.tensor([v]) for v in (mean, std, low, high))))
    points = [p for p in (low, high) if abs(p) < 40]
    exact, _ = quad(
        lambda v: min(max(v, low), high) * norm.pdf(v, mean, std),
        mean - 9 * std,
        mean + 9 * std,
        points=points or None,
        limit=200,
    )
    # float32 inputs, and the integral stops at 9 sigma
    assert ours == pytest.approx(exact, abs=1e-4)


def test_clipped_mean_of_a_constant():
    mean = clipped_mean(
        torch.tensor([-1.0, 2.0, 9.0]),
        torch.zeros(3),
        torch.tensor(0.0),
        torch.tensor([6.0, 1.0, 6.0]),
    )
    assert mean.tolist() == pytest.approx([0.0, 1.0, 6.0])


class Normal(nn.Module):
    """A layer whose batch-normalized output really is normal: its input is."""

    def __init__(self):
        super().__init__()
        self.a, self.bn, self.act = nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU6()
        self.b = nn.Linear(6, 4)

    def forward(self, x):
        return self.b(self.act(self.bn(self.a(x))))


def test_analytic_correction_removes_the_shift_of_quantized_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Normal().eval(), torch.randn(20_000, 8)
        z = model.a(x)
        model.bn.running_mean, model.bn.running_var = z.mean(0).detach(), z.var(0).detach()
        nn.init.normal_(model.bn.bias, 2.0, 2.0)
    net = Network.of(model, x[:2])
    inputs = torch.nn.functional.relu6(net.model.a(x)).mean(0)
    # 20,000 samples: standard error below 0.02
    assert torch.allclose(expected_inputs(net)["b"], inputs, atol=0.05)
    scheme = Scheme(Grid(2, range="minmax"))
    plain = quantize(Nearest(), net, x, scheme)
    corrected = quantize(Pipeline((Nearest(), AnalyticCorrection())), net, x, scheme)
    b = lambda q: q.layer("b")(F.relu6(net.model.a(x))).mean(0) - net.model(x).mean(0)  # noqa: E731
    assert float(b(plain).abs().max()) > 0.2
    assert float(b(corrected).abs().max()) < 0.1 * float(b(plain).abs().max())


def test_analytic_correction_needs_batch_norm():
    model, x = seeded(Branches)
    with pytest.raises(Unsupported, match="needs batch norm"):
        quantize(Pipeline((Nearest(), AnalyticCorrection())), Network.of(model, x[:2]), x, W8A8)


def test_data_free_ranges_by_hand():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Normal().eval(), torch.randn(8, 8)
    model.bn.weight.data = torch.tensor([0.1, 0.2, 0.1, 0.1, 0.1, 0.5])
    model.bn.bias.data = torch.tensor([1.0, 2.0, -3.0, 0.0, 0.0, 1.0])
    model.bn.eps = 0.0
    net = Network.of(model, x[:2])
    q = quantize(Pipeline((Nearest(), BatchNormRanges(sigmas=4.0))), net, x, W8A8)
    act = q.layer("b").act
    # 1 + 4 * 0.5 is the largest of beta + 4 gamma; ReLU6 leaves nothing below 0
    assert float(act.scale) * 255 == pytest.approx(3.0, rel=1e-3)
    assert float(act.zero) == 0
    wide = quantize(Pipeline((Nearest(), BatchNormRanges(sigmas=40.0))), net, x, W8A8)
    assert float(wide.layer("b").act.scale) * 255 == pytest.approx(6.0, rel=1e-3)
    first = q.layer("a").act  # the network's own input
    assert float(first.scale) * 255 == pytest.approx(float(x.max() - x.min()), rel=1e-2)


def test_ranges_of_a_sum_are_sums_of_ranges():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.bn1 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.b, self.bn2 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.c = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.c(self.bn1(self.a(x)) + self.bn2(self.b(x)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Residual().eval(), torch.randn(4, 3, 5, 5)
    model.bn1.bias.data, model.bn2.bias.data = torch.full((4,), 1.0), torch.full((4,), -2.0)
    model.bn1.eps = model.bn2.eps = 0.0
    net = Network.of(model, x[:2])
    q = quantize(Pipeline((Nearest(), BatchNormRanges(sigmas=2.0))), net, x, W8A8)
    act = q.layer("c").act  # from 1 - 2 - 4 to 1 - 2 + 4
    assert float(act.scale) * 255 == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize("method", [BatchNormRanges(), AbsorbBias(), DFQ()])
def test_what_needs_batch_norm_refuses_and_says_what_would_do(method):
    model, x = seeded(Branches)
    net = Network.of(model, x[:2])
    steps = (method,) if isinstance(method, DFQ) else (Nearest(), method)
    with pytest.raises(Unsupported, match="statistics='measured'"):
        quantize(Pipeline(steps), net, x, W8A8)


def test_measured_statistics_stand_for_those_of_batch_norm():
    model, x = seeded(Separable)
    z = model.full(x)
    model.bn1.running_mean = z.mean((0, 2, 3)).detach()
    model.bn1.running_var = z.var((0, 2, 3), correction=0).detach()
    net = Network.of(model, x[:2])
    found = output_statistics(net, (x,), "measured")["full"]
    assert torch.allclose(found.mean, net.batch_norm["full"].mean, atol=1e-4)
    assert torch.allclose(found.std, net.batch_norm["full"].std, rtol=1e-2, atol=1e-4)


def test_dfq_without_batch_norm_runs_on_measured_statistics():
    model, x = seeded(Separable)
    net = replace(Network.of(model, x[:2]), batch_norm={})
    q = quantize(DFQ(statistics="measured"), net, x, W8A8)
    assert bool(torch.isfinite(q.fake()(x)).all())


@pytest.mark.parametrize("wrong", [{"statistics": "none"}, {"act_ranges": "none"}])
def test_unknown_variants_are_refused(wrong):
    with pytest.raises(BadInput):
        DFQ(**wrong)


def test_data_free_ranges_conform():
    check(Pipeline((Nearest(), BatchNormRanges(statistics="measured"))))
