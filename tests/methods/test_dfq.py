import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn
from torch.nn import functional as F

from quantbench.errors import Unsupported
from quantbench.methods.dfq import (
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
