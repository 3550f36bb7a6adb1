"""Closest points of a lattice against brute force, step by step."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.methods.gramround import GramRound
from quantbench.quantization.grids import QParams
from quantbench.search.lattice import beam, cost, damped, descend, tabu

GRID = QParams(torch.ones(()), torch.zeros(()), (-2, -1, 0, 1))  # values are codes


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(seed, rows, n, groups=1):
    """Correlated second moments, and unconstrained solutions, some outside the codes -2 to 1."""
    g = rng(seed)
    a = torch.randn(groups, 3 * n, n, generator=g) + 2 * torch.randn(groups, 3 * n, 1, generator=g)
    return 1.5 * torch.randn(groups, rows, n, generator=g) - 0.5, damped(a.mT @ a / (3 * n), 1e-5)


def optimum(u, h):
    """Smallest cost over all codes, row by row."""
    codes = torch.tensor(
        list(itertools.product(range(-2, 2), repeat=u.shape[2])), dtype=torch.float32
    )
    return torch.stack(
        [
            torch.stack([cost(codes.unsqueeze(0), row, hh.unsqueeze(0)).min() for row in rows])
            for rows, hh in zip(u, h, strict=True)
        ]
    )


@given(st.integers(0, 10_000))
def test_a_wide_beam_is_exact(seed):
    u, h = problem(seed, 2, 5, groups=2)
    # every partial rounding to two neighbours; far codes are rarely best
    found = beam(u, h, -2, 1, width=2**5)
    assert found.min() >= -2
    assert found.max() <= 1
    near = cost(descend(found, u, h, -2, 1), u, h)
    best = optimum(u, h)
    assert (near >= best - 1e-4).all()
    assert (near <= 1.5 * best + 1e-4).all()


def test_the_whole_search_finds_the_optimum_of_small_rows():
    hits = []
    for seed in range(20):
        u, h = problem(seed, 3, 6)
        codes = GramRound(width=16, moves=60).search(u, u, GRID, h, rng(seed))
        hits.append(torch.isclose(cost(codes, u, h), optimum(u, h), rtol=1e-4, atol=1e-5))
    assert torch.cat(hits).all()


def test_each_step_of_the_search_goes_down():
    u, h = problem(7, 16, 40, groups=2)
    nearest = u.round().clamp(-2, 1)
    babai, wide = beam(u, h, -2, 1), beam(u, h, -2, 1, width=16)
    descended = descend(wide, u, h, -2, 1)
    searched = tabu(descended, u, h, -2, 1, 200, rng())
    costs = [float(cost(c, u, h).sum()) for c in (nearest, babai, wide, descended, searched)]
    assert costs == sorted(costs, reverse=True)
    # found: 0.87 of GPTQ's, which has a fifth of nearest's
    assert costs[4] < 0.95 * costs[1] < 0.5 * costs[0]
    assert (tabu(descended, u, h, -2, 1, 0, rng()) == descended).all()


def test_between_two_neighbours_it_finds_what_brute_force_finds():
    ratios = []
    for seed in range(20):
        u, h = problem(seed, 3, 6)
        w = u + 0.8 * torch.randn(u.shape, generator=rng(seed))  # whose neighbours are the box
        low, high = GRID.bracket(w)
        codes = GramRound(width=64, moves=60, neighbours=True).search(u, w, GRID, h, rng(seed))
        assert ((codes == low) | (codes == high)).all()
        up = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)))  # (64, 6)
        every = low[0] + up.unsqueeze(1) * (high - low)[0]  # (64, rows, 6)
        best = cost(every.transpose(0, 1), u[0].unsqueeze(1), h).amin(1)
        ratios.append(cost(codes, u, h)[0] / best)
    found = torch.cat(ratios)
    assert found.min() > 1 - 1e-6
    assert found.max() < 1.05  # found: 1.008, in one row of 60; the others are optimal
    assert (found < 1 + 1e-4).float().mean() > 0.9


def test_a_box_for_every_code_that_is_the_same_is_the_box_of_all():
    u, h = problem(11, 8, 40, groups=2)
    low, high = torch.full_like(u, -2), torch.full_like(u, 1)
    one, each = (
        tabu(descend(beam(u, h, *box, width=4), u, h, *box), u, h, *box, 50, rng())
        for box in ((-2, 1), (low, high))
    )
    assert (one == each).all()


def test_a_code_without_a_choice_stays():
    u, h = problem(5, 4, 12)
    low, high = u.round().clamp(-2, 1), u.round().clamp(-2, 1)
    high[..., ::2] = (high[..., ::2] + 1).clamp(max=1)
    codes = tabu(descend(beam(u, h, low, high, 4), u, h, low, high), u, h, low, high, 40, rng())
    assert (codes[..., 1::2] == low[..., 1::2]).all()
    assert torch.isfinite(cost(codes, u, h)).all()


def test_descent_ends_where_no_single_code_helps():
    u, h = problem(3, 4, 12)
    codes = descend(u.round().clamp(-2, 1), u, h, -2, 1)
    least = cost(codes, u, h)
    for j, step in itertools.product(range(12), (-1, 1)):
        moved = codes.clone()
        moved[..., j] = (moved[..., j] + step).clamp(-2, 1)
        assert (cost(moved, u, h) >= least - 1e-4).all()


def test_moments_that_are_no_numbers_are_refused():
    with pytest.raises(BadInput, match="NaN or infinite"):
        damped(torch.full((1, 2, 2), torch.nan), 1e-5)
    zero = damped(torch.zeros(1, 2, 2), 1e-5)
    # no input: nearest
    assert (beam(torch.tensor([[[0.4, 0.6]]]), zero, -2, 1) == torch.tensor([0.0, 1.0])).all()


def test_damping_follows_the_size_of_each_input():
    _, h = problem(2, 1, 6)
    size = torch.tensor([1.0, 3.0, 0.5, 20.0, 1.0, 2.0]).double()
    resized = h * size * size.unsqueeze(1)
    torch.testing.assert_close(damped(resized, 0.1), damped(h, 0.1) * size * size.unsqueeze(1))
