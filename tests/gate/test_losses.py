"""The tests of loss: closed forms, enumeration, and the power that is claimed for them."""

from dataclasses import replace
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.evidence.significance import (
    normal_loss,
    sign,
    smallest_loss,
    smallest_normal_loss,
)
from quantbench.gate.losses import ALONE, MARGIN, Pair, loss, pooled

N = 10_000


@given(st.integers(0, 15), st.integers(0, 15))
def test_sign_by_enumeration_of_all_coin_tosses(b, c):
    """At least as many lost; half of the coins fall on either side."""
    n = b + c
    at_least = sum(comb(n, i) for i in range(b, n + 1)) / 2**n
    assert sign(b, c, 1000) == pytest.approx(at_least if b else 1.0)


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0, 0.5))
def test_the_margin_weighs_the_coin(b, c, margin):
    """The coin whose expected loss is the margin."""
    n = b + c
    share = min(1.0, 0.5 + margin / 100 * N / (2 * n))
    at_least = sum(comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(b, n + 1))
    assert sign(b, c, N, margin) == pytest.approx(at_least, abs=1e-9)
    assert sign(b, c, N, margin) >= sign(b, c, N) - 1e-12


def test_normal_loss_is_the_tail():
    assert normal_loss(1.96, 1.0) == pytest.approx(0.025, abs=1e-4)
    assert normal_loss(2.16, 1.0, 0.2) == pytest.approx(0.025, abs=1e-4)
    assert (normal_loss(0.0, 0.0), normal_loss(0.3, 0.0, 0.2)) == (1.0, 0.0)


@pytest.mark.parametrize("discordant", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("margin", [0.0, MARGIN])
def test_the_smallest_loss_is_found_in_nine_of_ten_cases(discordant, margin):
    p = ALONE / 40
    points = smallest_loss(N, discordant, p, margin)
    rng = np.random.default_rng(0)
    lost = rng.binomial(N, discordant / 2 + points / 100, 4000)
    won = rng.binomial(N, discordant / 2, 4000)
    power = np.mean([sign(b, c, N, margin) < p for b, c in zip(lost, won, strict=True)])
    assert 0.88 <= power <= 0.96  # on the safe side where few images differ


def test_the_smallest_normal_loss_is_found_in_nine_of_ten_cases():
    points = smallest_normal_loss(0.2, 0.001, 0.1)
    drawn = np.random.default_rng(0).normal(points, 0.2, 4000)
    power = np.mean([normal_loss(value, 0.2, 0.1) < 0.001 for value in drawn])
    assert power == pytest.approx(0.9, abs=0.02)


def bits(rng, lost, won):
    before = rng.random(N) < 0.9
    flips = np.where(before, lost / 0.9, won / 0.1)
    return Pair(before, before ^ (rng.random(N) < flips), "top1", "set")


def test_the_loss_of_a_cell():
    pair = bits(np.random.default_rng(0), 0.02, 0.01)
    found = loss(pair)
    assert found.value == pytest.approx(100 * (pair.before.mean() - pair.now.mean()))
    assert found.lost == (pair.before & ~pair.now).sum()
    assert found.won == (~pair.before & pair.now).sum()
    assert found.p < ALONE < found.p_gain
    assert loss(Pair(pair.now, pair.before, "top1", "set")).p_gain == found.p


def test_what_another_kind_of_machine_draws_anew_is_no_loss():
    """1.2 points of 10,240 images: found where machines agree, and not where they differ by 0.3."""
    rng = np.random.default_rng(3)
    pair = bits(rng, 0.021, 0.009)
    drawn = loss(replace(pair, spread=0.3))
    assert loss(pair).p < ALONE / 78 < drawn.p
    assert drawn.finds(78) == pytest.approx(
        smallest_normal_loss(sqrt(loss(pair).se ** 2 + 0.09), ALONE / 78, MARGIN)
    )
    assert pooled([replace(pair, spread=0.3)]).se == pytest.approx(drawn.whole_se)


def test_together_is_the_mean_over_cells_and_an_image_counts_once():
    """Ten copies of one cell are no more evidence than one."""
    pair = bits(np.random.default_rng(0), 0.02, 0.01)
    one, ten = pooled([pair]), pooled([pair] * 10)
    assert ten.value == pytest.approx(one.value)
    assert ten.se == pytest.approx(one.se)
    assert one.se == pytest.approx(loss(pair).se)
    rng = np.random.default_rng(1)
    apart = pooled([bits(rng, 0.02, 0.01) for _ in range(10)])
    assert apart.se == pytest.approx(one.se / sqrt(10), rel=0.1)


def test_together_on_several_sets():
    rng = np.random.default_rng(1)
    pairs = [bits(rng, 0.02, 0.01) for _ in range(4)]
    other = [Pair(p.before, p.now, "top1", str(i)) for i, p in enumerate(pairs)]
    found = pooled(other)
    losses = [loss(p) for p in pairs]
    assert found.value == pytest.approx(np.mean([one.value for one in losses]))
    assert found.se == pytest.approx(sqrt(sum(one.se**2 for one in losses)) / 4)
