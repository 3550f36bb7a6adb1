"""Statistics against closed forms, scipy, brute-force enumeration and each other."""

import json
from itertools import combinations, product
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats

from quantbench.errors import BadInput
from quantbench.evidence import estimates, intervals, significance
from quantbench.evidence.bootstrap import (
    bootstrap,
    drawn_iou,
    drawn_ranks,
    drawn_spearman,
    mean_iou,
    ranked,
    spearman,
    times_drawn,
)
from quantbench.evidence.result import Result

counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200)).filter(
    lambda t: sum(t) > 0
)


def images(b, c, agree):
    """Correctness of two networks of which ``b`` images favour the first and ``c`` the second."""
    first = np.array([1] * b + [0] * c + [1] * agree, bool)
    second = np.array([0] * b + [1] * c + [1] * agree, bool)
    return first, second


@given(counts)
def test_the_paired_drop_is_the_closed_form(t):
    b, c, _ = t
    n = sum(t)
    drop = intervals.paired(*images(*t))
    assert (drop.b, drop.c, drop.n) == (b, c, n)
    assert drop.value == pytest.approx(100 * (b - c) / n)
    # sqrt of rounding
    assert drop.se == pytest.approx(100 * sqrt(max(b + c - (b - c) ** 2 / n, 0)) / n, abs=1e-6)
    assert -100 <= drop.low <= drop.value + 1e-9
    assert drop.value - 1e-9 <= drop.high <= 100


@given(counts)
def test_the_standard_error_is_that_of_the_mean_of_differences(t):
    first, second = images(*t)
    d = first.astype(float) - second.astype(float)
    assert intervals.paired(first, second).se == pytest.approx(
        100 * d.std() / sqrt(d.size), abs=1e-6
    )


@given(counts)
def test_swapping_the_networks_mirrors_the_interval(t):
    a, b = images(*t)
    forth, back = intervals.paired(a, b), intervals.paired(b, a)
    assert (forth.low, forth.high) == pytest.approx(
        (-back.high, -back.low), abs=1e-7
    )  # so close does the halving come


@given(counts)
def test_tangos_ends_solve_its_score_equation(t):
    """At either end, the likelihood maximised over a grid gives the score statistic 1.96."""
    b, c, agree = t
    n = sum(t)
    for end, z in zip(intervals.tango(b, c, n), (1.959964, -1.959964), strict=True):
        if not -0.999 < end < 0.999:
            continue
        p21 = np.linspace(max(0, -end), (1 - end) / 2, 200_001)[1:-1]
        loglik = b * np.log(p21 + end) + c * np.log(p21) + agree * np.log1p(-2 * p21 - end)
        best = p21[np.argmax(loglik)]
        score = (b - c - n * end) / sqrt(n * (2 * best + end - end**2))
        assert score == pytest.approx(z, abs=0.02)  # the grid's step


def coverage(interval, n, p12, p21):
    """Probability, by enumeration of all (b, c), that the interval holds p12 - p21."""
    table = scipy_stats.multinomial(n, [p12, p21, 1 - p12 - p21])
    held = 0.0
    for b, c in product(range(25), repeat=2):
        low, high = interval(b, c)
        held += (low <= p12 - p21 <= high) * table.pmf([b, c, n - b - c])
    return held


@pytest.mark.parametrize(("expected", "share"), [(1, 0), (2, 0.2), (2, 0), (5, 0.2), (5, 0.5)])
def test_tango_covers_where_wald_does_not(expected, share):
    """The claim of ``paired_units``'s docstring: why the interval is not value +- 1.96 SE."""
    n = 1000
    p12, p21 = expected / n * (1 - share), expected / n * share

    def wald(b, c):
        half = 1.96 * sqrt(b + c - (b - c) ** 2 / n) / n
        return (b - c) / n - half, (b - c) / n + half

    tango = coverage(lambda b, c: intervals.tango(b, c, n, 0.95), n, p12, p21)
    assert tango > 0.93  # discrete data: 0.938 is the lowest of the grid that was tried
    assert tango >= coverage(wald, n, p12, p21) - 1e-9
    if (expected, share) == (2, 0.2):
        assert tango == pytest.approx(0.99, abs=0.01)
        assert coverage(wald, n, p12, p21) == pytest.approx(0.79, abs=0.01)


def test_with_many_discordant_images_the_interval_is_walds():
    drop = intervals.paired(*images(400, 250, 9350))
    assert drop.low == pytest.approx(drop.value - 1.96 * drop.se, abs=0.01)
    assert drop.high == pytest.approx(drop.value + 1.96 * drop.se, abs=0.01)


def test_an_unchanged_network_still_has_an_interval():
    drop = intervals.paired(*images(0, 0, 1000))
    assert drop.value == 0
    # z^2 / (n + z^2), in points
    assert (drop.low, drop.high) == pytest.approx((-0.3827, 0.3827), abs=1e-3)


@given(hnp.arrays(bool, (2, 30)), st.integers(1, 4))
def test_repeating_a_seed_adds_no_evidence(pair, k):
    """Deterministic methods give the same bits for every seed: images alone are the units."""
    once = intervals.paired(pair[0], pair[1])
    assert intervals.paired(pair[0], np.tile(pair[1], (k, 1))) == once


def test_several_seeds_are_averaged_per_image():
    fp = np.ones(400, bool)
    rng = np.random.default_rng(3)
    quantized = rng.random((3, 400)) < 0.9
    drop = intervals.paired(fp, quantized)
    d = 1 - quantized.mean(axis=0)
    assert drop.value == pytest.approx(100 * d.mean())
    assert drop.se == pytest.approx(100 * d.std() / 20)
    # the adjustment moves it by 2 in 400
    assert drop.low == pytest.approx(drop.value - 1.96 * drop.se, abs=0.3)
    assert drop.se < intervals.paired(fp, quantized[0]).se


@pytest.mark.parametrize("scores", [[], [[]], [0.5, np.nan], [1.5], [-0.1]])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(BadInput):
        intervals.paired(scores, scores)


def test_different_images_are_refused():
    with pytest.raises(BadInput, match="3 images against 2"):
        intervals.paired([1, 0, 1], [1, 0])


@given(st.integers(0, 300), st.integers(0, 300).filter(bool))
def test_the_interval_of_an_accuracy_is_scipys(correct, wrong):
    n = correct + wrong
    ours = intervals.accuracy(np.arange(n) < correct)
    theirs = scipy_stats.binomtest(correct, n).proportion_ci(method="wilson")
    assert ours.value == pytest.approx(100 * correct / n)
    assert (ours.low, ours.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)


ends = st.tuples(st.floats(-50, 50), st.floats(0, 9), st.floats(0, 9))


@given(ends, st.floats(0, 9), st.floats(0, 1), st.floats(-50, 50))
def test_sources_of_error_add_in_squares_end_by_end_and_rounding_in_full(
    around, half, rounding, less
):
    value, down, up = around
    ours = intervals.Interval(value, value - down, value + up, 1.0, 100)
    found = intervals.joined(ours, half, rounding=rounding, less=less)
    assert found.value == pytest.approx(value - less)
    assert found.value - found.low == pytest.approx(sqrt(down**2 + half**2) + rounding, abs=1e-9)
    assert found.high - found.value == pytest.approx(sqrt(up**2 + half**2) + rounding, abs=1e-9)
    assert found.n == 100


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(p):
    """Adjusted p of a hypothesis: the largest Bonferroni p of all sets that hold it."""
    m = range(len(p))
    sets = [s for r in m for s in combinations(m, r + 1)]
    for i, adjusted in enumerate(significance.holm(p)):
        assert adjusted == pytest.approx(
            max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s)
        )


def test_holm_of_nothing():
    assert significance.holm([]) == []


def test_mann_whitney_by_enumeration_of_all_orders():
    a, b = [1.0, 2.5, 3.0, 9.0], [4.0, 5.0, 6.5, 7.0]
    pooled = a + b

    def u(members):
        return sum(pooled[i] > pooled[j] for i in members for j in range(8) if j not in members)

    seen = abs(u(range(4)) - 8)
    p = np.mean([abs(u(s) - 8) >= seen for s in combinations(range(8), 4)])
    assert significance.mann_whitney(a, b) == pytest.approx(p)


@given(
    hnp.arrays(np.int8, (2, 12), elements=st.integers(0, 5)).filter(
        lambda a: a[0].std() * a[1].std() > 0
    )
)
def test_spearman_is_scipys(a):
    assert spearman(a[0], a[1]) == pytest.approx(
        100 * scipy_stats.spearmanr(a[0], a[1]).statistic, abs=1e-9
    )


def test_equal_scores_predict_nothing():
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(1).normal(size=200)
    found = bootstrap(lambda v: v.mean(axis=-1), x, rng=np.random.default_rng(0))
    # 2,000 draws: 1.6 % standard error
    assert found.se == pytest.approx(x.std() / sqrt(200), rel=0.06)
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.se, rel=0.1)
    reference = scipy_stats.bootstrap(
        (x,), np.mean, method="percentile", n_resamples=2000, vectorized=True
    )
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.03)


def test_the_bootstrap_stays_paired_and_repeats():
    """A difference of two correlations of nearly equal scores is better known than either."""
    rng = np.random.default_rng(2)
    gold = rng.normal(size=150)
    fp = gold + rng.normal(size=150)
    quantized = fp + 0.05 * rng.normal(size=150)

    def drop(f, q, g):
        return spearman(f, g) - spearman(q, g)

    first, again = (
        bootstrap(drop, fp, quantized, gold, rng=np.random.default_rng(0), draws=300)
        for _ in range(2)
    )
    assert first == again
    alone = bootstrap(spearman, fp, gold, rng=np.random.default_rng(0), draws=300)
    assert first.half < alone.half / 5


def overlaps(rng, n, classes=4, right=0.8):
    """Counts (n, 3 C) of images that hold some of the classes."""
    true = rng.integers(1, 100, (n, classes)) * (rng.random((n, classes)) < 0.6)
    found = np.rint(true * np.clip(right + 0.1 * rng.normal(size=true.shape), 0, 1))
    return np.concatenate([found, true + rng.integers(0, 9, true.shape), true], 1)


def test_the_mean_of_overlaps_is_of_added_counts_and_of_true_classes():
    # two classes of which the second is found but nowhere true
    one, other = [3, 0, 5, 4, 4, 0], [1, 0, 5, 2, 6, 0]
    assert mean_iou(np.array([one, other])) == pytest.approx(100 * 4 / 10)
    assert mean_iou(np.zeros((3, 6))) == 0
    drawn = np.array([[one, one], [one, other]])
    assert mean_iou(drawn).tolist() == pytest.approx([60.0, 40.0])


def test_overlaps_are_compared_on_the_same_draws():
    """The interval of a difference is narrower than that of either, and covers the loss."""
    rng = np.random.default_rng(0)
    full = overlaps(rng, 60)
    worse = full.copy()
    worse[:, :4] = np.floor(0.97 * worse[:, :4])
    full_run = {0: Result.of(full, full, "d", metric="miou")}
    runs = {s: Result.of(full, worse, "d", metric="miou") for s in (0, 1)}
    found, alone = estimates.drop(runs), estimates.fp_accuracy(runs)
    assert alone.value == pytest.approx(float(mean_iou(full)))
    assert (
        runs[0].drop
        == pytest.approx(found.value)
        == pytest.approx(float(mean_iou(full) - mean_iou(worse)))
    )
    assert 0 < found.low < found.value < found.high
    assert found.half < alone.half / 3
    assert found.n == 60
    assert estimates.advantage(full_run, runs).low > 0
    again = Result.from_json(json.loads(json.dumps(runs[0].to_json())))
    assert np.array_equal(again.scores, worse)
    with pytest.raises(BadInput, match="scores of shapes"):
        Result.of(full, worse, "d", metric="map")


@settings(max_examples=5)
@given(st.sampled_from([((), ()), ((1, 2), (1,)), (((1, 2), (3, 4)), (1, 2))]))
def test_the_bootstrap_refuses_what_is_not_paired(arrays):
    with pytest.raises(BadInput, match="same n"):
        bootstrap(spearman, *arrays, rng=np.random.default_rng(0))


@pytest.mark.parametrize("ties", [2, 10, 10**6])
def test_ranks_of_draws_are_those_of_what_is_drawn(ties):
    """Sorted once or in every draw: the same numbers to the last bit, and scipy's."""
    rng = np.random.default_rng(ties)
    a, b = rng.integers(0, ties, (2, 60)).astype(np.float32)
    rows = rng.integers(0, 60, (40, 60))
    times = times_drawn(rows)
    found = drawn_spearman(drawn_ranks(a, times), drawn_ranks(b, times), times)
    assert np.array_equal(found, spearman(a[rows], b[rows]))
    assert np.array_equal(ranked(a[rows]), scipy_stats.rankdata(a[rows], axis=-1))


def test_overlaps_of_draws_are_those_of_what_is_drawn():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 400, (48, 63)).astype(np.float32)
    rows = rng.integers(0, 48, (40, 48))
    assert np.array_equal(drawn_iou(counts, times_drawn(rows)), mean_iou(counts[rows]))
