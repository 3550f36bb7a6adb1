"""Claims that were not run here are judged from the accepted baseline, and the page says so."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from quantbench.evidence.judge import judge
from quantbench.evidence.verdict import Outcome, skipped
from quantbench.gate.accepted import Accepted
from quantbench.gate.baseline import Baseline
from quantbench.report.bench import Row
from quantbench.report.page import found as module
from quantbench.report.page.found import found
from tests.evidence.test_judge import BEATS, CLAIM, LIMIT, run

FULL = f"{CLAIM.model}/fp/full-precision/{CLAIM.data}/s0-a"

HISTORY = ({"value": 90.0, "date": "2026-01-01", "commit": "c", "kind": "", "why": "first"},)


@pytest.fixture(autouse=True)
def _cache(root):
    """Nothing that another test has kept."""


def accepted(result, scores):
    about = {"metric": "top1", "n": result.n, "packing": "bits", "gold": "", "eval": "e"}
    return Accepted(result.q_top1, scores, settings={}, marks={}, history=HISTORY, **about)


def lab(*ids):
    return SimpleNamespace(ids=lambda _claim: list(ids))


def baseline(**runs):
    cells = {name: accepted(r, r.quantized) for name, r in runs.items()}
    first = next(iter(runs.values()))
    return Baseline({FULL: accepted(first, first.fp), **cells})


def waiting(claim):
    return Row(claim, skipped(claim, "no run of it is finished"), {}, {}, 0.0)


@pytest.mark.parametrize("claim", [CLAIM, LIMIT])
def test_the_verdict_on_accepted_scores_is_that_on_the_run(claim):
    result = run(92.0, 91.2)
    for _ in range(2):  # the second time it is read from the cache
        (one,) = found([waiting(claim)], baseline(own=result), lab("own"))
        assert one.accepted
        assert one.judged
        wanted = judge(claim, {0: result})
        assert one.row.verdict == replace(
            wanted, **{n: module.Interval(**_plain(getattr(wanted, n))) for n in _INTERVALS}
        )
        assert one.history == HISTORY
        assert one.row.runs[0].q_top1 == pytest.approx(91.2)


_INTERVALS = ("ours", "difference")


def _plain(interval):
    return {k: v for k, v in asdict(interval).items() if k not in ("b", "c")}


def test_a_rival_has_to_be_accepted_too():
    runs = {"own": run(92, 91), "rival": run(92, 84)}
    (one,) = found([waiting(BEATS)], baseline(**runs), lab("own", "rival"))
    assert one.row.verdict.outcome == Outcome.AHEAD
    (one,) = found([waiting(BEATS)], baseline(own=runs["own"]), lab("own", "rival"))
    assert not one.judged
    assert not one.accepted


def test_a_run_of_this_folder_stands_and_keeps_its_history():
    here = {0: run(92.0, 90.0)}
    row = Row(CLAIM, judge(CLAIM, here), {}, here, 1.0)
    (one,) = found([row], baseline(own=run(92.0, 50.0)), lab("own"))
    assert one.row is row
    assert (one.accepted, one.history) == (False, HISTORY)


def test_without_full_precision_or_baseline_nothing_is_judged():
    assert not found([waiting(CLAIM)], Baseline(), lab("own"))[0].judged
    only = Baseline({"own": accepted(run(92, 90), run(92, 90).quantized)})
    assert not found([waiting(CLAIM)], only, lab("own"))[0].judged


@pytest.mark.parametrize(
    "other", [{"eval": "of another set"}, {"metric": "f1"}, {"n": 5}, {"scores": "no base64!"}]
)
def test_scores_of_other_examples_than_full_precisions_are_not_paired(other):
    known = baseline(own=run(92.0, 91.2))
    cells = {**known.cells, "own": replace(known.cells["own"], **other)}
    (one,) = found([waiting(CLAIM)], Baseline(cells), lab("own"))
    assert (one.judged, one.accepted, one.history) == (False, False, HISTORY)
