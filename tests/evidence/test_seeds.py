"""The term of seeds against closed forms, scipy and simulation; what would decide, by search."""

from math import hypot, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from quantbench.evidence import seeds
from quantbench.evidence.power import deciding


@given(st.integers(2, 8), st.floats(0.01, 5))
def test_the_prediction_interval_is_its_closed_form(k, spread):
    values = spread * np.arange(k)
    expected = scipy_stats.t(k - 1).ppf(0.975) * sqrt(1 + 1 / k) * values.std(ddof=1)
    assert seeds.prediction_half(values.std(ddof=1), k) == pytest.approx(expected)


def test_the_prediction_interval_holds_the_next_run_95_times_of_100():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 4))
    sds = draws[:, :3].std(axis=1, ddof=1)
    inside = [
        abs(d[3] - d[:3].mean()) <= seeds.prediction_half(sd, 3)
        for d, sd in zip(draws, sds, strict=True)
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4,000 draws


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.floats(0.01, 2), st.integers(2, 6))
def test_welch_is_scipys(values, sd, runs):
    """A difference of means as large as the half-width has a p-value of exactly 5 %."""
    s = float(np.std(values, ddof=1))
    half = seeds.welch_half(s, len(values), sd, runs)
    test = scipy_stats.ttest_ind_from_stats(half, s, len(values), 0.0, sd, runs, equal_var=False)
    assert test.pvalue == pytest.approx(0.05)


def test_one_run_of_ours_is_predicted_from_the_published_spread():
    assert seeds.welch_half(0.0, 1, 0.1, 5) == pytest.approx(
        scipy_stats.t(4).ppf(0.975) * sqrt(1.2) * 0.1
    )
    assert seeds.welch_half(0.0, 2, 0.0, 5) == 0


@given(st.integers(2, 9), st.floats(0.01, 5))
def test_the_interval_of_a_mean_is_scipys(k, sd):
    low, high = scipy_stats.t.interval(0.95, k - 1, loc=0, scale=sd / sqrt(k))
    assert seeds.mean_half(sd, k) == pytest.approx((high - low) / 2)


def test_runs_that_are_equal_have_no_spread_whatever_their_rounding():
    assert seeds.spread([0.1 + 0.2] * 3) == 0
    assert seeds.of_the_mean([91.2] * 5).half == 0
    assert seeds.between([91.2] * 3, [90.1] * 3).half == 0
    assert seeds.between([91.2], [90.1, 90.5]).half == 0


@given(st.floats(0.05, 5), st.floats(0.1, 5), st.floats(0, 3), st.integers(100, 50_000))
def test_as_many_examples_as_are_named_make_the_interval_short_enough(need, half, sd, n):
    spread = seeds.of_the_mean([0.0, sd, 2 * sd])
    said = deciding(need, half, n, spread)
    if "examples would" in said:
        named = int(said.split()[1].replace(",", ""))
        assert hypot(half * sqrt(n / named), spread.half) <= need * (1 + 1e-9)
        assert hypot(half * sqrt(n / (named / 1.12)), spread.half) >= need or named < 1.12 * n
        assert named > n  # those that there are did not
    elif "seeds would" in said:
        k = int(said.split()[1])
        assert hypot(half, seeds.mean_half(sd, k)) < need
        assert k == 3 or hypot(half, seeds.mean_half(sd, k - 1)) >= need
    else:
        assert "never" in said
        assert min(half, spread.half) >= need or spread.half >= need


def test_an_estimate_at_the_end_of_what_is_allowed_is_never_decided():
    assert "any number" in deciding(0.0, 1.0, 100, seeds.NONE)
    assert "never" in deciding(0.5, 1.0, 100, seeds.Spread(0.6, ""))
