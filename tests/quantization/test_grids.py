from fractions import Fraction
from itertools import product
from math import gcd

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from quantbench.errors import BadInput
from quantbench.quantization.grids import QParams, qparams
from quantbench.quantization.levels import code_levels, nearest_levels, unsigned_levels
from quantbench.quantization.ranges import estimate
from quantbench.quantization.scheme import Grid, Override, Scheme

KINDS = st.sampled_from(["uniform", "apot", "pot", "lloyd"])


PUBLISHED = {  # unsigned bits: term sets, and what makes the largest level 1
    1: ("0 1", "1"),
    2: ("0 1/2 1/4 1/8", "1/2"),
    3: ("0 1/2 1/4 1/16 + 0 1/8", "5/8"),
    4: ("0 1/2 1/8 1/32 + 0 1/4 1/16 1/64", "3/4"),
    5: ("0 1/2 1/8 1/64 + 0 1/4 1/16 1/128 + 0 1/32", "25/32"),
    6: ("0 1/2 1/16 1/128 + 0 1/4 1/32 1/256 + 0 1/8 1/64 1/512", "7/8"),
}
LISTED = {
    1: "0 1",
    2: "0 1/4 1/2 1",
    3: "0 1/10 1/5 3/10 2/5 3/5 4/5 1",
    4: "0 1/48 1/24 1/16 1/12 1/8 1/6 3/16 1/4 1/3 3/8 1/2 2/3 11/16 3/4 1",
}
CODES = {  # signed bits: positive codes, whole multiples of one step
    2: (1,),
    3: (1, 2, 4),
    4: (1, 2, 3, 4, 6, 8, 10),
    5: (1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48),
}


def fractions(text):
    return [Fraction(t) for t in text.split()]


@pytest.mark.parametrize("bits", PUBLISHED)
def test_apot_levels_are_the_published_ones(bits):
    text, largest = PUBLISHED[bits]
    sums = {sum(terms) for terms in product(*map(fractions, text.split("+")))}
    assert max(sums) == Fraction(largest)
    found = unsigned_levels("apot", bits)
    assert found == tuple(sorted(s / max(sums) for s in sums))
    assert len(found) == 2**bits
    assert bits not in LISTED or list(found) == fractions(LISTED[bits])
    assert unsigned_levels("pot", bits)[1:] == tuple(
        Fraction(1, 2**e) for e in range(2**bits - 2, -1, -1)
    )
    assert unsigned_levels("uniform", bits) == tuple(
        Fraction(i, 2**bits - 1) for i in range(2**bits)
    )


@given(kind=KINDS, bits=st.integers(2, 6), signed=st.booleans())
def test_levels_are_whole_multiples_of_the_smallest_possible_step(kind, bits, signed):
    codes = code_levels(kind, bits, signed=signed)
    if kind != "uniform":
        magnitudes = unsigned_levels(kind, bits - 1 if signed else bits)
        assert sorted({abs(Fraction(c, codes[-1])) for c in codes}) == list(magnitudes)
        assert gcd(*codes) == 1
        assert not signed or codes == tuple(-c for c in reversed(codes))
    assert (
        kind != "apot"
        or not signed
        or bits not in CODES
        or codes[-len(CODES[bits]) :] == CODES[bits]
    )
    assert len(codes) == 2**bits - (signed and kind != "uniform")


@given(
    kind=KINDS,
    bits=st.integers(2, 6),
    signed=st.booleans(),
    seed=st.integers(0, 2**31),
    double=st.booleans(),
)
def test_projection_is_the_nearest_level_by_brute_force(kind, bits, signed, seed, double):
    levels = code_levels(kind, bits, signed=signed)
    dtype = torch.float64 if double else torch.float32
    x = (
        torch.rand(200, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2.4 - 1.2
    ) * levels[-1]
    ends = torch.tensor(levels, dtype=dtype)
    x = torch.cat(
        [x, ends, (ends[1:] + ends[:-1]) / 2, torch.tensor([torch.inf, -torch.inf], dtype=dtype)]
    )
    away = (x.double().clamp(levels[0], levels[-1])[:, None] - torch.tensor(levels).double()).abs()
    best = away.amin(1, keepdim=True)
    # the first of two equally near ones
    lower = torch.tensor(levels)[(away == best).int().argmax(1)]
    assert torch.equal(nearest_levels(x, levels), lower.to(dtype))


def test_projection_keeps_layout_and_nan_and_exactness_in_bfloat16():
    levels = code_levels("apot", 6, signed=False)  # up to 448, where bfloat16 has steps of 2
    x = (torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 450).to(
        torch.bfloat16
    )
    x = x.contiguous(memory_format=torch.channels_last)
    found = nearest_levels(x, levels)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, nearest_levels(x.double().contiguous(), levels).to(torch.bfloat16))
    wide = code_levels("pot", 5, signed=False)  # too wide for a table
    for each in (levels, wide):
        nan, one = nearest_levels(torch.tensor([torch.nan, 1.1]), each).tolist()
        assert nan != nan  # noqa: PLR0124 - NaN
        assert one == 1


def test_projection_needs_no_memory_for_each_level():
    x, peak = torch.rand(2**20) * 448, {}
    for bits in (2, 6):
        levels = code_levels("apot", bits, signed=False)
        nearest_levels(x, levels)  # makes the table
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            nearest_levels(x, levels)
        held = peak[bits] = 0
        for event in (e for e in found.events() if e.name == "[memory]"):
            held += event.cpu_memory_usage
            peak[bits] = max(peak[bits], held)
    assert 0 < peak[6] <= 4 * x.numel() * 4  # a few tensors like x
    assert peak[6] <= peak[2] * 1.01  # 64 levels or 4


@pytest.mark.parametrize("bits", [1, 0, 9, 2.0])
def test_bits_outside_the_range_are_refused(bits):
    with pytest.raises(BadInput, match="from 2 to 8"):
        Grid(bits)


def test_override_beats_first_and_last():
    s = Scheme(Grid(4), Grid(8), first_last_bits=8, overrides=(Override("a", 2),))
    assert (
        s.weight_grid("a", edge=True).bits,
        s.weight_grid("b", edge=True).bits,
        s.weight_grid("c").bits,
    ) == (
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


@given(
    seed=st.integers(0, 2**31),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    per_channel=st.booleans(),
)
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


@pytest.mark.parametrize(
    "x", [torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf]), torch.empty(0)]
)
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


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_written_out_gradients_of_fake_quantization_are_those_of_autograd(per_channel):
    rng = torch.Generator().manual_seed(0)
    shape = (4, 1, 1, 1) if per_channel else ()
    x = 3 * torch.randn(4, 3, 5, 5, generator=rng).requires_grad_()
    scale = (0.1 + torch.rand(shape, generator=rng)).requires_grad_()
    zero = torch.full(shape, 2.0).requires_grad_()
    up = torch.randn(4, 3, 5, 5, generator=rng)
    clipped = torch.minimum(torch.maximum(x / scale, 0 - zero), 7 - zero)
    theirs = torch.autograd.grad(
        (clipped + (clipped.round() - clipped).detach()) * scale, [x, scale, zero], up
    )
    found = QParams(scale, zero, tuple(range(8))).fake(x)
    ours = torch.autograd.grad(found, [x, scale, zero], up, retain_graph=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    again = torch.autograd.grad(found, [x, scale, zero], up)  # nothing that was kept is used up
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    with torch.no_grad():
        assert torch.equal(QParams(scale, zero, tuple(range(8))).fake(x), found)
