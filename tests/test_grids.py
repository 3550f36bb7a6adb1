from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.grids import QParams, code_levels, qparams, unsigned_levels
from quantbench.ranges import estimate
from quantbench.scheme import Grid, Override, Scheme

KINDS = st.sampled_from(["uniform", "apot", "pot"])


def test_apot_levels_are_the_published_ones():
    f = Fraction
    assert unsigned_levels("apot", 2) == (0, f(1, 4), f(1, 2), 1)
    assert unsigned_levels("apot", 3) == (0, f(1, 10), f(1, 5), f(3, 10), f(2, 5), f(3, 5), f(4, 5), 1)
    assert len(unsigned_levels("apot", 6)) == 64
    assert code_levels("apot", 2, signed=True) == (-1, 0, 1)


@pytest.mark.parametrize("bits", [1, 0, 9, 2.0])
def test_bits_outside_the_range_are_refused(bits):
    with pytest.raises(BadInput, match="from 2 to 8"):
        Grid(bits)


def test_override_beats_first_and_last():
    s = Scheme(Grid(4), Grid(8), first_last_bits=8, overrides=(Override("a", 2),))
    assert (s.weight_grid("a", edge=True).bits, s.weight_grid("b", edge=True).bits, s.weight_grid("c").bits) == (
        2,
        8,
        4,
    )


@given(kind=KINDS, bits=st.integers(2, 5), signed=st.booleans(), seed=st.integers(0, 2**31))
def test_quantize_is_the_nearest_level_by_brute_force(kind, bits, signed, seed):
    x = torch.randn(64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x if signed else x.abs()
    qp = qparams(Grid(bits, kind), x.min(), x.max(), signed=signed)
    values = qp.dequantize(torch.tensor(qp.levels, dtype=torch.float64))
    nearest = (x[:, None] - values).abs().amin(1)
    assert torch.allclose((qp.dequantize(qp.quantize(x)) - x).abs(), nearest)


@given(kind=KINDS, bits=st.integers(2, 5), seed=st.integers(0, 2**31))
def test_bracket_are_the_neighbours(kind, bits, seed):
    x = torch.randn(64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.5
    qp = QParams(
        torch.tensor(0.3, dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
        code_levels(kind, bits, signed=True),
    )
    low, high = qp.bracket(x)
    for v, lo, hi in zip((x / 0.3).tolist(), low.tolist(), high.tolist(), strict=True):
        below = [c for c in qp.levels if c <= v]
        above = [c for c in qp.levels if c > v]
        assert lo == (below[-1] if below else qp.levels[0])
        assert hi == (above[0] if above else qp.levels[-1])


@given(seed=st.integers(0, 2**31), bits=st.integers(2, 8), symmetric=st.booleans(), per_channel=st.booleans())
def test_mse_range_is_never_worse_than_minmax(seed, bits, symmetric, per_channel):
    x = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    error = {}
    for name in ("minmax", "mse"):
        qp = estimate(x, Grid(bits, symmetric=symmetric, per_channel=per_channel, range=name))
        error[name] = (qp.fake(x) - x).square().mean().item()
    assert error["mse"] <= error["minmax"] * (1 + 1e-6)


def test_output_mse_weighs_the_error_by_the_input():
    w = torch.tensor([[1.0, 0.013], [0.9, 0.02]])
    gram = torch.diag(torch.tensor([1e-4, 1.0]))[None]
    by_weight = estimate(w, Grid(2, range="mse")).fake(w)
    by_output = estimate(w, Grid(2, range="output_mse"), gram=gram).fake(w)

    def loss(v):
        d = v - w
        return torch.einsum("ok,kl,ol->", d, gram[0], d).item()

    assert loss(by_output) <= loss(by_weight)
    with pytest.raises(BadInput, match="output_mse"):
        estimate(w, Grid(2, range="output_mse"))


def test_percentile_cuts_the_tail():
    x = torch.cat([torch.linspace(0, 1, 9999), torch.tensor([100.0])])
    assert estimate(x, Grid(8, symmetric=False, range="percentile99.9")).scale * 255 < 1.01
    assert estimate(x, Grid(8, symmetric=False, range="minmax")).scale * 255 > 99


@pytest.mark.parametrize("x", [torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf]), torch.empty(0)])
def test_bad_values_are_refused(x):
    with pytest.raises(BadInput):
        estimate(x, Grid(4))


@given(kind=KINDS, seed=st.integers(0, 2**31))
def test_gradient_is_straight_through_inside_and_zero_outside(kind, seed):
    x = (torch.randn(64, generator=torch.Generator().manual_seed(seed)) * 2).requires_grad_()
    qp = QParams(torch.tensor(0.5), torch.tensor(0.0), code_levels(kind, 3, signed=True))
    qp.fake(x).sum().backward()
    scaled = x.detach() / 0.5
    inside = (scaled > qp.levels[0]) & (scaled < qp.levels[-1])
    assert torch.equal(x.grad, inside.float())
