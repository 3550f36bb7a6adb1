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

from quantbench.claims.claim import Rival, Xfail
from quantbench.claims.source import Source
from quantbench.errors import BadInput
from quantbench.evidence import estimates, rates
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import Outcome, refused, skipped
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.bench import Row
from quantbench.report.table import ours

W4 = Scheme(Grid(4))
CLAIM = replace(
    rates.claim("value", 90.0, 0.5),
    id="cifar10/resnet20/w4/t1-toy",
    paper="toy",
    data="cifar10/test_1000",
    published_on="cifar10/test_1000",
    method="toy",
    metric="top1",
    fp=92.0,
    tol_why="a test",
    source=Source("p", "t", "r", "c", "authors", "read", ""),
    where="toy.toml:1",
    checkpoint="other",
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


UNLIKE = "another checkpoint"

# the authors' own quantized network: nothing of ours is in it, so only its number is compared
RELEASED = replace(CLAIM, checkpoint="quantized")


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
def test_a_released_network_must_be_within_the_tolerance_on_either_side(quantized, expected):
    assert outcome(RELEASED, run(92.0, quantized)) == expected


@pytest.mark.parametrize(
    ("checkpoint", "data", "expected", "reason"),
    [
        ("authors", "cifar10/test", "REPRODUCED", ""),
        ("quantized", "cifar10/test", "REPRODUCED", ""),
        ("other", "cifar10/test", "CONSISTENT", "another checkpoint"),
        ("authors", "cifar10/test_1000", "CONSISTENT", "a part of cifar10/test"),
        (
            *("other", "cifar10/test_1000", "CONSISTENT"),
            "another checkpoint and a part of cifar10/test",
        ),
    ],
)
def test_only_the_authors_network_on_their_whole_set_reproduces(checkpoint, data, expected, reason):
    claim = replace(CLAIM, checkpoint=checkpoint, data=data, published_on="cifar10/test", tol=2)
    verdict = judge(claim, {0: run(92.0, 90.0)})
    assert (verdict.outcome, verdict.reason, verdict.fails) == (expected, reason, False)


@pytest.mark.parametrize(
    ("quantized", "tol", "expected", "decides"),
    [
        (86.0, 0.5, "BELOW", ""),
        (91.9, 0.5, "ABOVE", ""),
        (90.3, 0.5, "UNDECIDED", "examples would decide; "),
        (90.0, 2.0, "CONSISTENT", ""),
    ],
)
@pytest.mark.parametrize("authors", [True, False])
def test_why_it_is_not_the_authors_cell_stands_beside_every_word(
    quantized, tol, expected, decides, authors
):
    claim = replace(CLAIM, checkpoint="authors" if authors else "other", tol=tol)
    verdict = judge(claim, {0: run(92.0, quantized)})
    if authors and expected == "CONSISTENT":
        expected = "REPRODUCED"
    assert verdict.outcome == expected
    assert verdict.reason.endswith(decides.removesuffix("; ") if authors else decides + UNLIKE)
    assert (UNLIKE in verdict.reason) == (not authors)
    own = replace(claim, source=replace(claim.source, reported="project"))
    assert UNLIKE not in judge(own, {0: run(92.0, quantized)}).reason


def test_a_wide_interval_decides_nothing_however_near_the_estimate():
    """The very published drop, on too few images."""
    claim = replace(CLAIM, checkpoint="authors", tol=0.5)
    verdict = judge(claim, {0: run(92.0, 90.0, n=200)})
    assert verdict.difference.value == pytest.approx(0)
    assert verdict.difference.half > 0.5
    assert verdict.outcome == "UNDECIDED"
    assert (verdict.fails, verdict.undecided) == (False, True)
    assert "examples would decide" in str(verdict)
    assert not replace(verdict, gates=False).undecided


@given(st.integers(0, 300), st.floats(0, 5), st.floats(0, 5), st.floats(0, 0.5), st.booleans())
def test_the_outcome_is_where_the_printed_interval_lies(lost, published, tol, rounding, authors):
    claim = replace(
        CLAIM,
        metric="top1_drop",
        value=published,
        fp=None,
        tol=tol,
        rounding=rounding,
        checkpoint="authors" if authors else "other",
    )
    fp, q = np.ones(1000, bool), np.arange(1000) >= lost
    verdict = judge(claim, {0: Result.of(fp, q, "d")})
    low, high = verdict.allowed
    d, slack = verdict.difference, 1e-9
    assert (low, high) == (-tol, tol)
    assert d.value == pytest.approx(lost / 10 - published)
    assert d.low <= d.value - rounding + slack
    assert d.value + rounding <= d.high + slack
    agrees = "REPRODUCED" if authors else "CONSISTENT"
    within, worse, better = low <= d.low and d.high <= high, d.low > high, d.high < low
    words = [(within, agrees), (worse, "BELOW"), (better, "ABOVE"), (True, "UNDECIDED")]
    near = min(abs(a - b) for a in (d.low, d.high) for b in (low, high)) < 2 * slack
    assert near or verdict.outcome == next(word for true, word in words if true)


def test_drops_are_compared_not_accuracies():
    """Both our networks are 0.1 better than the published ones."""
    verdict = judge(replace(RELEASED, tol=0.05), {0: run(92.1, 90.1)})
    assert (verdict.outcome, verdict.what, verdict.published) == ("REPRODUCED", "drop", 2.0)
    assert verdict.ours.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("fp", "expected"), [(92.1, "REPRODUCED"), (92.2, "WRONG-BASE"), (91.8, "WRONG-BASE")]
)
def test_another_full_precision_model_cannot_reproduce_a_drop(fp, expected):
    assert outcome(replace(RELEASED, tol=5), run(fp, 90.0)) == expected


FP = replace(
    CLAIM,
    kind="fp",
    value=92.0,
    fp=None,
    tol=0.1,
    fp_tol=0,
    scheme=None,
    method="",
    checkpoint="authors",
)


def test_a_full_precision_claim_on_the_same_images_is_no_sample():
    assert outcome(FP, run(92.1, 92.1)) == "REPRODUCED"
    assert outcome(FP, run(92.2, 92.2)) == "ABOVE"
    assert outcome(FP, run(91.8, 91.8)) == "BELOW"
    text = judge(FP, {0: run(92.1, 92.1)}).explain()
    assert "the same network on the same 1000, nothing was sampled" in text
    assert "our full-precision accuracy: 92.10 [90." in text  # the reader still sees it
    assert outcome(replace(FP, checkpoint="other"), run(92.1, 92.1)) == "UNDECIDED"
    assert outcome(replace(FP, published_on="cifar10/test"), run(92.1, 92.1)) == "UNDECIDED"


def test_the_published_rounding_counts_against_agreement():
    """92.1 may have been 92.05 to 92.15, of which the end is outside."""
    claim = replace(FP, value=92.1, tol=0.12, rounding=0.05)
    verdict = judge(claim, {0: run(92.0, 92.0)})
    assert verdict.outcome == "UNDECIDED"
    assert verdict.difference.low == pytest.approx(-0.15)
    assert "any number to decide" in verdict.reason
    assert "rounding of the published number: 0.05" in verdict.explain()
    assert outcome(replace(claim, tol=0.15), run(92.0, 92.0)) == "REPRODUCED"


def test_a_source_without_full_precision_is_compared_by_accuracy():
    claim = replace(RELEASED, fp=None)
    assert judge(claim, {0: run(95.0, 90.4)}).what == "accuracy"
    assert [outcome(claim, run(95.0, q)) for q in (90.4, 89.4, 90.6)] == [
        "REPRODUCED",
        "BELOW",
        "ABOVE",
    ]
    assert outcome(replace(RELEASED, kind="accuracy"), run(92.0, 89.4)) == "BELOW"


def test_a_drop_is_shown_where_drops_were_compared():
    """A network that was released quantized has lost nothing that we could see."""

    def shown(claim):
        runs = {0: run(92.0, 90.4)}
        return ours(Row(claim, judge(claim, runs), {}, runs, 1.0))

    assert shown(CLAIM).startswith("90.40 (+1.60) [+")
    assert shown(replace(CLAIM, fp=None)).startswith("90.40 [88.")


def test_a_published_range_is_hit_anywhere_within():
    claim = replace(RELEASED, value=88.0, value_to=90.0, tol=0.1)
    assert [outcome(claim, run(92.0, q)) for q in (89.0, 88.0, 87.8, 90.2)] == [
        "REPRODUCED"
    ] * 2 + ["BELOW", "ABOVE"]
    verdict = judge(claim, {0: run(92.0, 87.8)})
    assert (verdict.published, verdict.published_to) == (2.0, 4.0)
    assert verdict.allowed == pytest.approx((-0.1, 2.1))
    assert verdict.difference.value == pytest.approx(2.2)


def images_half(runs):
    return estimates.drop(runs).half


def test_seeds_widen_by_the_prediction_interval_and_images_add_in_squares():
    runs = {i: run(92.0, q) for i, q in enumerate((89.0, 89.4, 89.8))}
    claim = replace(CLAIM, seeds=(0, 1, 2), checkpoint="authors")
    verdict = judge(claim, runs)
    half = scipy_stats.t(2).ppf(0.975) * sqrt(1 + 1 / 3) * 0.4
    assert verdict.difference.half == pytest.approx(hypot(half, images_half(runs)), rel=0.01)
    assert "t sqrt(1 + 1/3) sd" in verdict.explain()
    # a method without randomness has no such term
    same = {i: run(92.0, 89.4) for i in range(3)}
    assert judge(claim, same).difference.half == pytest.approx(images_half(same))
    assert "seeds: one of ours" in judge(claim, {0: run(92.0, 89.4)}).explain()


def test_a_published_spread_is_used():
    claim = replace(CLAIM, seeds=(0, 1), value=89.0, sd=0.5, runs=5, tol=0.0)
    runs = {0: run(92.0, 89.2), 1: run(92.0, 89.6)}
    verdict = judge(claim, runs)
    assert "Welch" in verdict.explain()
    gap = sqrt(0.08 / 2 + 0.25 / 5)
    df = gap**4 / (0.04**2 / 1 + 0.05**2 / 4)
    half = scipy_stats.t(df).ppf(0.975) * gap
    assert verdict.difference.half == pytest.approx(hypot(half, images_half(runs)), rel=0.01)
    assert "over 5 runs" in judge(claim, {0: run(92.0, 89.2)}).explain()
    one = {0: run(92.0, 89.2)}
    alone = judge(replace(claim, runs=None), one).difference.half
    assert alone == pytest.approx(hypot(1.96 * sqrt(2) * 0.5, images_half(one)), rel=0.01)


def test_a_part_of_the_set_stands_for_it_and_full_precision_is_only_known_within_its_interval():
    claim = replace(CLAIM, published_on="cifar10/test", tol=0.1)
    ours = run(92.0, 89.4)
    verdict = judge(claim, {0: ours})
    assert verdict.difference.half == pytest.approx(images_half({0: ours}))
    assert "1000 of cifar10/test_1000 stand for cifar10/test" in verdict.explain()
    assert outcome(claim, run(93.0, 90.4)) == "UNDECIDED"
    assert outcome(claim, run(96.0, 94.0)) == "WRONG-BASE"


LIMIT = replace(
    CLAIM,
    kind="max_drop",
    value=1.0,
    fp=None,
    tol=0,
    source=replace(CLAIM.source, reported="project"),
)


@pytest.mark.parametrize(
    ("n", "quantized", "expected"),
    [
        (1000, 91.9, "HOLDS"),
        (1000, 91.1, "UNDECIDED"),
        (1000, 90.6, "UNDECIDED"),
        (1000, 89.0, "MISSED"),
        (50_000, 91.05, "UNDECIDED"),
        (50_000, 91.1, "HOLDS"),
    ],
)
def test_a_limit_is_kept_by_the_whole_interval(n, quantized, expected):
    verdict = judge(LIMIT, {0: run(92.0, quantized, n=n)})
    assert verdict.outcome == expected
    assert verdict.fails == (expected == "MISSED")
    assert ("examples would decide" in verdict.reason) == (expected == "UNDECIDED")


def test_about_as_many_images_as_were_named_do_decide():
    """About: Tango's interval of few lost images does not shrink with their root alone."""
    few = judge(LIMIT, {0: run(92.0, 91.5, n=1000)})
    named = int(few.reason.split()[1].replace(",", ""))
    assert 1000 < named < 5000
    assert outcome(LIMIT, run(92.0, 91.5, n=4 * named // 3 // 200 * 200)) == "HOLDS"
    assert outcome(LIMIT, run(92.0, 91.5, n=2 * named // 3 // 200 * 200)) == "UNDECIDED"


def test_seeds_are_in_the_interval_of_a_limit():
    runs = {i: run(92.0, q, n=10_000) for i, q in enumerate((91.2, 91.5, 91.8))}
    verdict = judge(replace(LIMIT, seeds=(0, 1, 2)), runs)
    half = scipy_stats.t(2).ppf(0.975) * 0.3 / sqrt(3)
    assert verdict.difference.half == pytest.approx(hypot(half, images_half(runs)), rel=0.01)
    assert verdict.outcome == "UNDECIDED"
    assert "seeds would decide" in verdict.reason
    assert outcome(LIMIT, run(92.0, 91.5, n=10_000)) == "HOLDS"


def test_a_number_of_this_project_holds_or_is_missed():
    claim = replace(FP, value=88.0, value_to=97.0, tol=0, checkpoint="other")
    claim = replace(claim, source=replace(claim.source, reported="project"))
    assert [outcome(claim, run(a, a)) for a in (92.0, 88.5, 80.0, 99.0)] == [
        *("HOLDS", "UNDECIDED", "MISSED", "MISSED")
    ]


@pytest.mark.parametrize(
    ("ours", "rival", "expected"), [(91, 84, "AHEAD"), (84, 91, "BEHIND"), (91, 90.9, "TIE")]
)
def test_beating_a_rival_takes_an_interval_without_zero(ours, rival, expected):
    verdict = judge(BEATS, {0: run(92, ours)}, {0: run(92, rival)})
    assert (verdict.outcome, verdict.reason) == (expected, "one seed")
    assert verdict.fails == (expected != "AHEAD")
    assert outcome(replace(BEATS, kind="order"), run(92, ours), rivals=[run(92, rival)]) == expected


def test_three_seeds_give_a_comparison_a_term_of_its_own():
    ours = {i: run(92, q) for i, q in enumerate((90.0, 90.5, 91.0))}
    rivals = {i: run(92, q) for i, q in enumerate((88.0, 88.2, 88.4))}
    verdict = judge(replace(BEATS, seeds=(0, 1, 2)), ours, rivals)
    theirs = scipy_stats.ttest_ind([90.0, 90.5, 91.0], [88.0, 88.2, 88.4], equal_var=False)
    interval = theirs.confidence_interval()
    half = hypot((interval.high - interval.low) / 2, estimates.advantage(ours, rivals).half)
    assert verdict.difference.half == pytest.approx(half, rel=0.01)
    assert (verdict.outcome, verdict.reason) == ("AHEAD", "")
    two = judge(BEATS, {0: ours[0], 1: ours[1]}, {0: rivals[0], 1: rivals[1]})
    assert two.reason == "two seeds"
    assert judge(BEATS, ours, {0: rivals[0]}).reason == "one seed"


@pytest.mark.parametrize(("rival", "said"), [(45.0, "one seed"), (44.0, "keeps 49%")])
def test_a_rival_that_has_collapsed_is_named_beside_the_word(rival, said):
    verdict = judge(BEATS, {0: run(90.0, 88.0)}, {0: run(90.0, rival)})
    assert verdict.outcome == Outcome.AHEAD
    assert verdict.reason.startswith("one seed")
    assert verdict.reason.endswith("one seed" if said == "one seed" else "of full precision")
    assert said in verdict.reason


@given(st.integers(0, 40), st.integers(0, 40))
def test_beating_is_what_the_paired_interval_says(b, c):
    """Same accuracies, but on other images: only the discordant images count."""
    n = 200
    ours, rival = np.zeros(n, bool), np.zeros(n, bool)
    ours[: 100 + b] = True
    rival[:100] = rival[n - c :] = c > 0
    fp = np.ones(n, bool)
    verdict = judge(BEATS, {0: Result.of(fp, ours, "a")}, {0: Result.of(fp, rival, "b")})
    found = verdict.difference
    assert found.value == pytest.approx(100 * (ours.mean() - rival.mean()))
    expected = "AHEAD" if found.low > 0 else "BEHIND" if found.high < 0 else "TIE"
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


def test_a_known_miss_and_one_that_did_not_come():
    claim = replace(RELEASED, xfail=Xfail(12.0, "2026-11-29", "the preprocessing is unknown"))
    fails, passes = judge(claim, {0: run(92.0, 80.0)}), judge(claim, {0: run(92.0, 90.0)})
    known = "known miss: 12 on 2026-11-29, the preprocessing is unknown"
    assert str(fails) == f"XFAIL(BELOW: {known})"
    assert str(passes) == f"XPASS(REPRODUCED: {known})"
    assert (fails.fails, passes.fails) == (False, True)
    assert judge(claim, {}).outcome == "SKIP"
    open_ = judge(replace(claim, checkpoint="authors"), {0: run(92.0, 90.0)})
    assert open_.outcome == "UNDECIDED"
    assert known in open_.explain()


def test_what_was_recalled_is_judged_but_never_gates():
    verdict = judge(replace(CLAIM, gates=False), {0: run(92.0, 80.0)})
    assert str(verdict) == f"BELOW({UNLIKE}) (not gating)"
    assert not verdict.fails


FINE = {
    *("REPRODUCED", "CONSISTENT", "HOLDS", "AHEAD"),
    *("UNDECIDED", "XFAIL", "SKIP"),
}


@pytest.mark.parametrize("word", list(Outcome))
def test_only_a_pass_a_known_miss_a_skip_and_the_undecided_do_not_fail(word):
    verdict = replace(judge(CLAIM, {0: run(92.0, 90.0)}), outcome=word)
    assert verdict.fails == (word not in FINE)
    assert verdict.undecided == (word == "UNDECIDED")


def test_what_was_refused_fails_where_it_gates():
    verdict = refused(CLAIM, "no integer form of softmax")
    assert str(verdict) == "REFUSED(no integer form of softmax)"
    assert verdict.fails
    assert not refused(replace(CLAIM, gates=False), "no").fails


def test_every_part_of_the_decision_is_printed():
    text = judge(replace(CLAIM, published_on="cifar10/test"), {0: run(92.0, 89.0, won=3)}).explain()
    for part in (
        "our drop: 3.00 [",
        "asked: 2.00",
        "ours - asked: +1.00 [",
        "must lie within -0.50 and +0.50",
        "seeds: one of ours",
        "images: 1000 of cifar10/test_1000",
    ):
        assert part in text
    assert "must lie at or below +0.00" in judge(LIMIT, {0: run(92.0, 91.0)}).explain()
    assert "must lie above 0" in judge(BEATS, {0: run(92, 91)}, {0: run(92, 90)}).explain()


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
    claim = replace(RELEASED, metric=metric, value=published)
    assert outcome(claim, run(92.0, 90.0, extra={metric: ours})) == expected
    assert judge(claim, {0: run(92.0, 90.0)}).reason == f"the run recorded no {metric}"


def test_a_published_drop_needs_no_accuracy():
    claim = replace(RELEASED, metric="top1_drop", value=2.0, fp=None)
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
    assert judge(claim, good, bad).outcome == "AHEAD"
    assert judge(claim, bad, good).outcome == "BEHIND"
    assert estimates.drop(good).value == pytest.approx(0)
    assert estimates.accuracy(bad).value == pytest.approx(bad[0].q_top1)
    assert estimates.fp_accuracy(bad).value == pytest.approx(bad[0].fp_top1)
    assert estimates.drop(bad) == estimates.drop(bad)
    assert judge(replace(claim, kind="max_drop", value=1.0), good).outcome == "HOLDS"


def test_judging_needs_no_scipy():
    """Its solvers take longer to import than a report takes to write."""
    code = (
        "import sys; from quantbench.evidence import intervals, judge;"
        "print(intervals.tango(5, 1, 100), intervals.accuracy([True, False]));"
        "print({'scipy', 'torch', 'matplotlib', 'mlflow'}.intersection(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "set()"
