"""Accepting: what needs a reason, what is refused, and what the history keeps."""

import pytest

from quantbench.errors import BadInput
from quantbench.evidence.result import Latency
from quantbench.gate.accept import Reason, accept_cells, without_bits
from quantbench.gate.baseline import Baseline
from quantbench.gate.cells import compare
from quantbench.gate.finding import Status
from quantbench.gate.forget import forget
from tests.helpers.records import cell, records, result

DATE = "2026-11-29"
SILENT = Reason("", lower=False, date=DATE)
WHY = Reason("another rounding", lower=False, date=DATE)
LOWER = Reason("a bug made it too good", lower=True, date=DATE)
N = 10_000


def run(folder, now, kind="here", one=None):
    return records(folder, (one or cell(), now), kind=kind)


@pytest.fixture
def accepted(tmp_path):
    return accept_cells(Baseline(), run(tmp_path / "old", result(n=N)), SILENT)


def only(baseline):
    (held,) = baseline.cells.values()
    return held


def test_what_is_new_needs_no_reason(accepted):
    (event,) = only(accepted).history
    assert (event["why"], event["value"], event["date"]) == ("first accepted", 90.0, DATE)
    assert event["kind"] == "here"


def test_what_did_not_change_leaves_no_event(tmp_path, accepted):
    assert accept_cells(accepted, run(tmp_path / "new", result(n=N)), WHY) == accepted


@pytest.mark.parametrize(
    ("now", "kind", "said"),
    [
        (result(n=N, digest="new"), "here", "moved"),
        (result(won=200, n=N, digest="new"), "there", "other scores"),
        (result(n=N - 10), "here", "other data"),
    ],
)
def test_what_changed_needs_a_reason(tmp_path, accepted, now, kind, said):
    runs = run(tmp_path / "new", now, kind)
    with pytest.raises(BadInput, match=rf"{said}(.|\n)*--why"):
        accept_cells(accepted, runs, SILENT)
    held = only(accept_cells(accepted, runs, WHY))
    assert [e["why"] for e in held.history] == ["first accepted", "another rounding"]
    assert held.marks.keys() == {kind}  # what was accepted elsewhere is of other code


def test_another_kind_of_machine_that_agrees_is_added_without_a_reason(tmp_path, accepted):
    there = run(tmp_path / "new", result(lost=20, won=15, n=N, digest="there"), "there")
    both = accept_cells(accepted, there, SILENT)
    held = only(both)
    assert held.marks.keys() == {"here", "there"}
    assert held.value == 90.0
    assert held.discordant == pytest.approx(35 / N)
    assert [f.status for f in compare(both, there)] == ["identical"]
    assert [e["why"] for e in held.history] == ["first accepted", "another kind of machine"]


@pytest.mark.parametrize("kind", ["here", "there"])
def test_a_loss_needs_both_words(tmp_path, accepted, kind):
    worse = run(tmp_path / "new", result(lost=100, n=N, digest="new"), kind)
    for reason in (SILENT, WHY, Reason("", lower=True, date=DATE)):
        with pytest.raises(BadInput, match=r"1\.00 points lost(.|\n)*--lower and --why"):
            accept_cells(accepted, worse, reason)
    held = only(accept_cells(accepted, worse, LOWER))
    assert (held.value, held.best) == (89.0, "")
    assert [e["value"] for e in held.history] == [90.0, 89.0]


def test_losses_too_small_to_show_do_not_add_up(tmp_path, accepted):
    baseline = accepted
    steps = [
        run(tmp_path / f"{step}", result(lost=100 + 12 * step, won=100, n=N, digest=f"d{step}"))
        for step in range(10)
    ]
    with pytest.raises(BadInput, match="points lost"):  # noqa: PT012 - which step does not matter
        for runs in steps:
            baseline = accept_cells(baseline, runs, WHY)
    held = only(baseline)
    assert len(held.history) > 3
    assert 0 < 90.0 - held.value < 1
    assert held.best == only(accepted).scores


def test_a_gain_becomes_the_best(tmp_path, accepted):
    better = run(tmp_path / "new", result(won=200, n=N, digest="new"))
    held = only(accept_cells(accepted, better, WHY))
    assert (held.value, held.best) == (92.0, "")


def test_nothing_is_accepted_when_one_of_several_is_refused(tmp_path, accepted):
    runs = [
        *run(tmp_path / "a", result(lost=100, n=N, digest="new")),
        *run(tmp_path / "b", result(), one=cell(1)),
    ]
    with pytest.raises(BadInput):
        accept_cells(accepted, runs, WHY)
    assert len(accepted.cells) == 1


def test_latencies_of_other_machines_are_kept(tmp_path):
    def timed(machine, factor):
        row = Latency("native", 1, machine, (1.0 * factor, 3.0), (2.0, 4.0))
        return result(n=N, latency=(row,))

    baseline = accept_cells(Baseline(), run(tmp_path / "a", timed("m", 1)), SILENT)
    baseline = accept_cells(baseline, run(tmp_path / "b", timed("other", 1)), SILENT)
    baseline = accept_cells(baseline, run(tmp_path / "c", timed("m", 1.5)), SILENT)
    rows = only(baseline).latency
    assert [(r["machine"], r["ratios"]) for r in rows] == [
        ("other", [0.5, 0.75]),
        ("m", [0.75, 0.75]),
    ]


def test_what_is_forgotten_needs_a_reason_and_leaves_a_note(tmp_path, accepted):
    both = accept_cells(accepted, run(tmp_path / "b", result(), one=cell(1)), SILENT)
    claims = {"a": {"fields": {}}, "b": {"fields": {}}}
    both = Baseline(both.cells, claims)
    with pytest.raises(BadInput, match="needs a reason"):
        forget(both, [cell().id], ["a"], SILENT)
    after = forget(both, [cell().id], ["a"], WHY)
    assert (set(after.cells), set(after.claims)) == ({cell().id}, {"a"})
    assert [g["name"] for g in after.forgotten] == [cell(1).id, "b"]
    assert {g["why"] for g in after.forgotten} == {"another rounding"}


def test_bits_that_are_forgotten_leave_scores_to_decide(tmp_path, accepted):
    with pytest.raises(BadInput, match="with a reason only"):
        without_bits(accepted, SILENT)
    after = without_bits(accepted, WHY)
    assert only(after).scores == only(accepted).scores
    assert only(after).history[-1]["why"] == "another rounding"
    same, worse = result(n=N), result(lost=300, n=N)
    (found,) = compare(after, run(tmp_path / "same", same))
    assert found.status == Status.UNCHANGED
    (found,) = compare(after, run(tmp_path / "worse", worse))
    assert found.status == Status.LOSS
    again = accept_cells(after, run(tmp_path / "again", same), SILENT)
    assert only(again).marks.keys() == {"here"}


def test_a_run_that_does_not_tell_its_kind_is_never_identical(tmp_path, accepted):
    runs = run(tmp_path / "new", result(n=N))
    unknown = [type(r)(**{**vars(r), "made": {"machine": "m"}}) for r in runs]
    assert [f.status for f in compare(accepted, unknown)] == ["unchanged"]
    assert only(accept_cells(Baseline(), unknown, SILENT)).marks == {}
