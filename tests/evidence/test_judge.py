"""Verdicts: every kind of claim on results made to order, and the sums behind them."""

import subprocess
import sys
from dataclasses import replace
from math import hypot, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from quantbench.claims.claim import Claim, Rival, Xfail
from quantbench.claims.source import Source
from quantbench.errors import BadInput
from quantbench.evidence import estimates
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import Outcome, skipped
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.bench import Row
from quantbench.report.table import ours

W4 = Scheme(Grid(4))
CLAIM = Claim(
    id="cifar10/resnet20/w4/t1-toy",
    paper="toy",
    kind="value",
    model="cifar10/resnet20",
    data="cifar10/test_1000",
    published_on="cifar10/test_1000",
    method="toy",
    fields=(),
    scheme=W4,
    rival=None,
    metric="top1",
    value=90.0,
    value_to=None,
    sd=None,
    runs=None,
    fp=92.0,
    fp_tol=0.1,
    tol=0.5,
    tol_why="a test",
    gates=True,
    seeds=(0,),
    calib=None,
    follows="paper",
    note="",
    xfail=None,
    skip="",
    source=Source("p", "t", "r", "c", "authors", "read", ""),
    where="toy.toml:1",
)
BEATS = replace(CLAIM, kind="beats", value=None, fp=None, rival=Rival("nearest", (), W4))


def run(fp, quantized, n=1000, won=0, **rest):
    """Result with the given accuracies.

    ``won`` of the images that full precision misses are right when quantized.
    """
    bits = np.arange(n) < round(n * fp / 100)
    after = (np.arange(n) < round(n * quantized / 100) - won) | (
        (np.arange(n) >= n - won) & (np.arange(n) < n)
    )
    result = Result.of(bits, after, f"{quantized}", **rest)
    assert (result.fp_top1, result.q_top1) == pytest.approx((fp, quantized))
    return result


def outcome(claim, *results, rivals=()):
    return judge(claim, dict(enumerate(results)), dict(enumerate(rivals))).outcome


@pytest.mark.parametrize(
    ("quantized", "expected"),
    [
        (90.0, "REPRODUCED"),
        (89.5, "REPRODUCED"),
        (89.4, "BELOW"),
        (90.5, "REPRODUCED"),
        (90.6, "ABOVE"),
        (91.9, "ABOVE"),
    ],
)
def test_a_drop_must_be_within_the_tolerance_on_either_side(quantized, expected):
    assert outcome(CLAIM, run(92.0, quantized)) == expected


def test_drops_are_compared_not_accuracies():
    """Both our networks are 0.1 better than the published ones."""
    verdict = judge(replace(CLAIM, tol=0.05), {0: run(92.1, 90.1)})
    assert (verdict.outcome, verdict.what, verdict.published) == ("REPRODUCED", "drop", 2.0)
    assert verdict.ours.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("fp", "expected"), [(92.1, "REPRODUCED"), (92.2, "WRONG-BASE"), (91.8, "WRONG-BASE")]
)
def test_another_full_precision_model_cannot_reproduce_a_drop(fp, expected):
    assert outcome(replace(CLAIM, tol=5), run(fp, 90.0)) == expected


def test_a_full_precision_claim():
    claim = replace(
        CLAIM, kind="fp", value=92.0, fp=None, tol=0.1, fp_tol=0, scheme=None, method=""
    )
    assert outcome(claim, run(92.1, 92.1)) == "REPRODUCED"
    assert outcome(claim, run(92.2, 92.2)) == "WRONG-BASE"


def test_a_source_without_full_precision_is_compared_by_accuracy():
    claim = replace(CLAIM, fp=None)
    assert judge(claim, {0: run(95.0, 90.4)}).what == "accuracy"
    assert [outcome(claim, run(95.0, q)) for q in (90.4, 89.4, 90.6)] == [
        "REPRODUCED",
        "BELOW",
        "ABOVE",
    ]
    assert outcome(replace(CLAIM, kind="accuracy"), run(92.0, 89.4)) == "BELOW"


def test_a_drop_is_shown_where_drops_were_compared():
    """A network that was released quantized has lost nothing that we could see."""

    def shown(claim):
        runs = {0: run(92.0, 90.4)}
        return ours(Row(claim, judge(claim, runs), {}, runs, 1.0))

    assert shown(CLAIM).startswith("90.40 (+1.60) [+")
    assert shown(replace(CLAIM, fp=None)).startswith("90.40 [88.")


def test_a_published_range_is_hit_anywhere_within():
    claim = replace(CLAIM, value=88.0, value_to=90.0, tol=0.1)
    assert [outcome(claim, run(92.0, q)) for q in (89.0, 88.0, 87.8, 90.2)] == [
        "REPRODUCED"
    ] * 2 + ["BELOW", "ABOVE"]
    assert judge(claim, {0: run(92.0, 87.8)}).away == pytest.approx(0.2)
    assert judge(claim, {0: run(92.0, 90.2)}).away == pytest.approx(-0.2)


def test_seeds_widen_by_the_prediction_interval():
    quantized = (89.0, 89.4, 89.8)
    claim = replace(CLAIM, seeds=(0, 1, 2), value=90.6, tol=0.1)
    verdict = judge(claim, {i: run(92.0, q) for i, q in enumerate(quantized)})
    half = scipy_stats.t(2).ppf(0.975) * sqrt(1 + 1 / 3) * 0.4
    assert verdict.sampling == pytest.approx(half)
    assert verdict.outcome == "REPRODUCED"
    assert "t sqrt(1 + 1/3) sd" in verdict.explain()
    assert outcome(claim, run(92.0, 89.4)) == "BELOW"  # one seed says nothing about the others
    same = judge(claim, {i: run(92.0, 89.4) for i in range(3)})
    # a method without randomness has no such excuse
    assert (same.outcome, same.sampling) == ("BELOW", 0)


def test_a_published_spread_is_used():
    claim = replace(CLAIM, seeds=(0, 1), value=89.0, sd=0.5, runs=5, tol=0.0)
    verdict = judge(claim, {0: run(92.0, 89.2), 1: run(92.0, 89.6)})
    assert "Welch" in verdict.explain()
    gap = sqrt(0.08 / 2 + 0.25 / 5)
    df = gap**4 / (0.04**2 / 1 + 0.05**2 / 4)
    assert verdict.sampling == pytest.approx(scipy_stats.t(df).ppf(0.975) * gap)
    assert "over 5 runs" in judge(claim, {0: run(92.0, 89.2)}).explain()
    alone = judge(replace(claim, runs=None), {0: run(92.0, 89.2)})
    assert alone.sampling == pytest.approx(1.96 * sqrt(2) * 0.5)


def test_a_subset_keeps_the_drop_and_widens_the_interval():
    claim = replace(CLAIM, published_on="cifar10/test_10000", tol=0.1)
    ours = run(92.0, 89.4)
    verdict = judge(claim, {0: ours})
    assert outcome(replace(claim, published_on=claim.data), ours) == "BELOW"
    assert verdict.outcome == "REPRODUCED"
    assert verdict.sampling == pytest.approx(estimates.drop({0: ours}).half)
    assert "1000 of cifar10/test_1000 stand for cifar10/test_10000" in verdict.explain()
    # full precision, too, is only known within its interval
    assert outcome(claim, run(93.0, 90.4)) == "REPRODUCED"
    assert outcome(claim, run(96.0, 94.0)) == "WRONG-BASE"


def test_seeds_and_images_add_in_squares():
    claim = replace(CLAIM, seeds=(0, 1, 2), published_on="cifar10/test_10000")
    runs = {i: run(92.0, q) for i, q in enumerate((89.0, 89.4, 89.8))}
    seeds = judge(replace(claim, published_on=claim.data), runs).sampling
    assert judge(claim, runs).sampling == pytest.approx(hypot(seeds, estimates.drop(runs).half))


@pytest.mark.parametrize(
    ("quantized", "expected"), [(91.0, "REPRODUCED"), (91.5, "REPRODUCED"), (90.9, "BELOW")]
)
def test_a_limit_is_kept_by_the_estimate_itself(quantized, expected):
    assert (
        outcome(replace(CLAIM, kind="max_drop", value=1.0, fp=None, tol=0), run(92.0, quantized))
        == expected
    )


@pytest.mark.parametrize(
    ("ours", "rival", "expected"), [(91, 84, "REPRODUCED"), (84, 91, "BELOW"), (91, 90.9, "TIE")]
)
def test_beating_a_rival_takes_an_interval_without_zero(ours, rival, expected):
    assert outcome(BEATS, run(92, ours), rivals=[run(92, rival)]) == expected
    assert outcome(replace(BEATS, kind="order"), run(92, ours), rivals=[run(92, rival)]) == expected


@given(st.integers(0, 40), st.integers(0, 40))
def test_beating_is_what_the_paired_interval_says(b, c):
    """Same accuracies, but on other images: only the discordant images count."""
    n = 200
    ours, rival = np.zeros(n, bool), np.zeros(n, bool)
    ours[: 100 + b] = True
    rival[:100] = rival[n - c :] = c > 0
    fp = np.ones(n, bool)
    verdict = judge(BEATS, {0: Result.of(fp, ours, "a")}, {0: Result.of(fp, rival, "b")})
    assert verdict.ours.value == pytest.approx(100 * (ours.mean() - rival.mean()))
    expected = "REPRODUCED" if verdict.ours.low > 0 else "BELOW" if verdict.ours.high < 0 else "TIE"
    assert verdict.outcome == expected


def test_an_advantage_is_the_difference_of_drops_over_all_seeds():
    rng = np.random.default_rng(0)
    fp = rng.random(300) < 0.9
    ours, rivals = (
        {s: Result.of(fp, rng.random(300) < p, "d") for s in range(k)}
        for p, k in ((0.9, 3), (0.7, 2))
    )
    found = estimates.advantage(ours, rivals)
    assert found.value == pytest.approx(estimates.drop(rivals).value - estimates.drop(ours).value)
    d = np.mean([r.scores for r in ours.values()], 0) - np.mean(
        [r.scores for r in rivals.values()], 0
    )
    assert found.se == pytest.approx(100 * d.std() / sqrt(300))


def test_a_rival_on_other_examples_is_no_rival():
    with pytest.raises(BadInput, match="same examples"):
        judge(BEATS, {0: run(92, 91)}, {0: run(92, 91, n=500)})
    with pytest.raises(BadInput, match="different examples"):
        judge(CLAIM, {0: run(92, 90), 1: run(92, 90, n=500)})


def test_without_runs_there_is_nothing_to_judge():
    assert judge(CLAIM, {}).outcome == "SKIP"
    assert judge(BEATS, {0: run(92, 91)}, {}).reason == "its rival has no finished run"
    assert (
        judge(replace(CLAIM, skip="never published"), {0: run(92, 90)}).reason == "never published"
    )
    assert (
        "1 of 2 seeds have not run"
        in judge(replace(CLAIM, seeds=(0, 1)), {1: run(92, 90)}).explain()
    )


def test_a_skip_names_the_command():
    verdict = skipped(CLAIM, "imagenet/val is not here", "quantbench data fetch imagenet/val")
    assert str(verdict) == "SKIP(imagenet/val is not here)"
    assert "to run it: quantbench data fetch imagenet/val" in verdict.explain()
    assert not verdict.fails


def test_an_expected_failure_and_one_that_did_not_come():
    claim = replace(CLAIM, xfail=Xfail(2.0, "2026-11-29", "the preprocessing is unknown"))
    fails, passes = judge(claim, {0: run(92.0, 80.0)}), judge(claim, {0: run(92.0, 90.0)})
    assert str(fails) == "XFAIL(BELOW: known miss: 2 on 2026-11-29, the preprocessing is unknown)"
    assert passes.outcome == "XPASS"
    assert (fails.fails, passes.fails) == (False, True)
    assert judge(claim, {}).outcome == "SKIP"


def test_what_was_recalled_is_judged_but_never_gates():
    verdict = judge(replace(CLAIM, gates=False), {0: run(92.0, 80.0)})
    assert str(verdict) == "BELOW (not gating)"
    assert not verdict.fails


@pytest.mark.parametrize("word", list(Outcome))
def test_only_a_pass_an_expected_failure_and_a_skip_do_not_fail(word):
    verdict = replace(judge(CLAIM, {0: run(92.0, 90.0)}), outcome=word)
    assert verdict.fails == (word not in ("REPRODUCED", "XFAIL", "SKIP"))


def test_every_part_of_the_decision_is_printed():
    text = judge(
        replace(CLAIM, published_on="cifar10/test_10000"), {0: run(92.0, 89.0, won=3)}
    ).explain()
    for part in (
        "our drop: 3.00 [",
        "published: 2.00",
        "1.00 worse",
        "tolerance 0.50 + sampling",
        "seeds: one of ours",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("metric", "published", "ours", "expected"),
    [
        ("minutes", 10, 20, "BELOW"),
        ("minutes", 10, 5, "ABOVE"),
        ("int4_layers", 10, 5, "BELOW"),
        ("top5_drop", 1, 1, "REPRODUCED"),
    ],
)
def test_other_measurements_are_read_from_what_the_run_noted(metric, published, ours, expected):
    claim = replace(CLAIM, metric=metric, value=published)
    assert outcome(claim, run(92.0, 90.0, extra={metric: ours})) == expected
    assert judge(claim, {0: run(92.0, 90.0)}).reason == f"the run recorded no {metric}"


def test_a_published_drop_needs_no_accuracy():
    claim = replace(CLAIM, metric="top1_drop", value=2.0, fp=None)
    assert [outcome(claim, run(88.0, q)) for q in (86.0, 85.0, 87.0)] == [
        "REPRODUCED",
        "BELOW",
        "ABOVE",
    ]


def test_rank_correlations_are_bootstrapped():
    rng = np.random.default_rng(1)
    gold = rng.normal(size=120)
    near, far = gold + 0.3 * rng.normal(size=120), gold + 2 * rng.normal(size=120)
    good = {0: Result.of(near, near + 0.01, "a", metric="spearman", gold=gold)}
    bad = {0: Result.of(near, far, "b", metric="spearman", gold=gold)}
    claim = replace(BEATS, metric="spearman")
    assert judge(claim, good, bad).outcome == "REPRODUCED"
    assert judge(claim, bad, good).outcome == "BELOW"
    assert estimates.drop(good).value == pytest.approx(0)
    assert estimates.accuracy(bad).value == pytest.approx(bad[0].q_top1)
    assert estimates.fp_accuracy(bad).value == pytest.approx(bad[0].fp_top1)
    assert estimates.drop(bad) == estimates.drop(bad)
    assert judge(replace(claim, kind="max_drop", value=1.0), good).outcome == "REPRODUCED"


def test_judging_needs_no_scipy():
    """Its solvers take longer to import than a report takes to write."""
    code = (
        "import sys; from quantbench.evidence import intervals, judge;"
        "print(intervals.tango(5, 1, 100), intervals.accuracy([True, False]));"
        "print({'scipy', 'torch', 'matplotlib', 'mlflow'}.intersection(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "set()"
