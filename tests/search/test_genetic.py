"""The papers' genetic search against brute force and the exact solution."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.search.genetic import Problem, exact, genetic

ROUND = 1e-9  # sums of the same floats in another order


def problem(rng, sizes=(1, 2, 3), options=3):
    """Random groups: costs grow and losses fall with the bits, and layers of a group interact."""
    layers = sum(sizes)
    costs = np.cumsum(rng.integers(1, 20, (layers, options)), 1).astype(float)
    ends = np.cumsum((0, *sizes))
    groups = tuple(tuple(range(a, b)) for a, b in pairwise(ends))
    return Problem(costs, groups, tuple(rng.exponential(size=(options,) * n) for n in sizes))


def best_of(p, limit):
    every = np.array(list(product(range(p.costs.shape[1]), repeat=len(p.costs))))
    return p.loss(every)[p.cost(every) <= limit].min()


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_exact_is_what_brute_force_finds_and_the_genetic_search_is_never_below(seed, share):
    rng = np.random.default_rng(seed)
    p = problem(rng)
    low, high = p.costs.min(1).sum(), p.costs.max(1).sum()
    limit = low + share * (high - low)
    c, proof = exact(p, limit)
    assert proof.status == "Optimal"
    assert p.cost(c) <= limit * (1 + ROUND)
    assert p.loss(c) == pytest.approx(best_of(p, limit), rel=ROUND)
    found, curve = genetic(
        p, limit, np.random.default_rng(seed), population=20, iterations=10, mutation=0.1
    )
    assert p.cost(found) <= limit
    assert p.loss(found) >= p.loss(c) * (1 - ROUND)
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == p.loss(found)


def test_the_papers_search_solves_small_problems_and_comes_near_on_large_ones():
    gaps = []
    for seed in range(5):
        p = problem(np.random.default_rng(seed), sizes=(1, 2, 3, 2, 1, 3, 2))
        limit = 0.6 * p.costs.max(1).sum()
        found, _ = genetic(
            p, limit, np.random.default_rng(1), population=50, iterations=100, mutation=0.1
        )
        gaps.append(float(p.loss(found) / p.loss(exact(p, limit)[0]) - 1))
    assert min(gaps) < 0.01  # 14 layers, 5 million combinations, 5,000 looked at
    assert max(gaps) < 0.25  # random losses have no structure to follow: harder than networks


def test_the_search_is_a_function_of_its_generator():
    p = problem(np.random.default_rng(0), sizes=(2,) * 6)
    limit = 0.6 * p.costs.max(1).sum()
    runs = [
        genetic(p, limit, np.random.default_rng(s), population=10, iterations=5, mutation=0.1)
        for s in (3, 3, 4)
    ]
    assert np.array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert runs[0][1] != runs[2][1]
