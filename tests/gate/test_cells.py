"""A finished cell against the accepted one: the word, and whether it fails."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from quantbench.evidence.result import Result
from quantbench.gate.accept import Reason, accept_cells
from quantbench.gate.baseline import Baseline
from quantbench.gate.cells import compare
from tests.helpers.records import Toy, cell, records, result

FIRST = Reason("", lower=False, date="2026-11-29")
N = 10_000


@pytest.fixture
def accepted(tmp_path):
    return accept_cells(Baseline(), records(tmp_path / "old", (cell(), result(n=N))), FIRST)


@pytest.mark.parametrize(
    ("now", "kind", "status", "fails"),
    [
        (result(n=N), None, "identical", False),
        (result(n=N, digest="new"), None, "moved", True),  # other bits, the same answers
        (result(lost=1, n=N), None, "moved", True),  # the same network, evaluated differently
        (result(won=1, n=N, digest="new"), None, "moved", True),  # a gain too
        (result(n=N, digest="new"), "another", "unchanged", False),
        (result(lost=20, n=N, digest="new"), "another", "unchanged", False),
        (result(lost=100, n=N, digest="new"), "another", "loss", True),  # one point
        (result(won=100, n=N, digest="new"), "another", "gain", False),
        (result(lost=250, won=240, n=N, digest="new"), "another", "unchanged", False),
        (result(lost=50, n=999, digest="new"), None, "other data", True),
    ],
)
def test_a_cell_against_its_baseline(tmp_path, accepted, now, kind, status, fails):
    (found,) = compare(accepted, records(tmp_path / "new", (cell(), now), kind=kind))
    assert (found.status, found.fails) == (status, fails)
    assert status in str(found)


def test_elsewhere_the_smallest_loss_that_would_show_is_said(tmp_path, accepted):
    now = result(lost=10, won=10, n=N, digest="new")
    (found,) = compare(accepted, records(tmp_path / "new", (cell(), now), kind="another"))
    assert "90.00 -> 90.00 (10 of 10000 examples worse, 10 better), p = 0.5" not in str(found)
    assert "finds losses from 0.5" in str(found)


def test_other_examples_are_other_data(tmp_path, accepted):
    other = records(tmp_path / "new", (cell(eval_digest="e1"), result(n=N)))
    (found,) = compare(accepted, other)
    assert (found.status, found.fails) == ("other data", True)


def test_a_finished_cell_without_a_baseline_is_new_and_must_be_accepted(tmp_path, accepted):
    (found,) = compare(accepted, records(tmp_path / "new", (cell(1), result())))
    assert (found.status, found.fails) == ("new", True)


@dataclass(frozen=True)
class Faster(Toy):
    """The toy with another default."""

    version: ClassVar[int] = 2
    iterations: int = 50


@dataclass(frozen=True)
class Grown(Toy):
    """The toy with a field more."""

    version: ClassVar[int] = 2
    moments: bool = False


def test_a_changed_default_is_caught_even_if_no_bit_moves(tmp_path, accepted):
    assert cell(method=Faster()).id == cell().id
    (found,) = compare(accepted, records(tmp_path / "new", (cell(method=Faster()), result(n=N))))
    assert (found.status, found.fails) == ("changed default", True)
    assert "method.iterations: 100 -> 50" in str(found)


def test_a_field_more_is_no_changed_default(tmp_path, accepted):
    (found,) = compare(accepted, records(tmp_path / "new", (cell(method=Grown()), result(n=N))))
    assert found.status == "identical"


def test_small_losses_of_all_cells_show_together(tmp_path):
    cells = [cell(seed) for seed in range(30)]
    rng = np.random.default_rng(0)
    before = [rng.random(N) < 0.9 for _ in cells]
    truth = np.ones(N, bool)
    old = [Result.of(truth, bits, "a") for bits in before]
    baseline = accept_cells(
        Baseline(), records(tmp_path / "old", *zip(cells, old, strict=True)), FIRST
    )
    # of 90 % right 1.8 % are lost, of 10 % wrong 12 % won: 0.4 points, too little alone
    flip = [rng.random(N) < np.where(bits, 0.0178, 0.12) for bits in before]
    now = [Result.of(truth, bits ^ f, "b") for bits, f in zip(before, flip, strict=True)]
    found = compare(
        baseline, records(tmp_path / "new", *zip(cells, now, strict=True), kind="another")
    )
    assert {f.status for f in found[:-1]} == {"unchanged"}
    assert (found[-1].about, found[-1].status, found[-1].fails) == ("all cells", "loss", True)


def test_creeping_shows_against_the_best(tmp_path):
    """Each step is too small to show against the last one accepted."""
    baseline = accept_cells(
        Baseline(), records(tmp_path / "0", (cell(), result(n=N)), kind="k0"), FIRST
    )
    statuses = []
    for step in range(1, 10):
        now = result(lost=100 + 12 * step, won=100, n=N, digest=f"d{step}")
        run = records(tmp_path / f"{step}", (cell(), now), kind="k0")
        elsewhere = [replace(r, made={**r.made, "kind": "another"}) for r in run]
        (found,) = compare(baseline, elsewhere)
        statuses.append(found.status)
        if found.fails:
            assert "below the best accepted" in str(found)
            break
        baseline = accept_cells(baseline, run, Reason("a step", lower=False, date="2026-11-29"))
    assert statuses[:2] == ["unchanged"] * 2
    assert statuses[-1] == "loss"


def test_overlaps_of_classes_are_compared_by_draws_of_images(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.integers(50, 100, (300, 3)).astype(float)
    full = np.concatenate([true - 5, true + 5, true], 1)
    worse = full - [[9, 9, 9, 0, 0, 0, 0, 0, 0]] * rng.integers(0, 2, (300, 1))
    held = records(tmp_path / "a", (cell(), Result.of(full, full, "a", metric="miou")))
    baseline = accept_cells(Baseline(), held, FIRST)
    written = tmp_path / "baseline.json"
    baseline.write(written)
    baseline = Baseline.read(written)
    same = records(tmp_path / "b", (cell(), Result.of(full, full, "b", metric="miou")), kind="b")
    assert [f.status for f in compare(baseline, same)] == ["unchanged"]
    lost = records(tmp_path / "c", (cell(), Result.of(full, worse, "c", metric="miou")), kind="b")
    (found,) = compare(baseline, lost)
    assert found.status == "loss"
    assert "of 300 examples worse, 0 better" in str(found)


def test_scores_that_are_not_correctness(tmp_path):
    rng = np.random.default_rng(0)
    gold = rng.random(2000)
    f1 = Result.of(gold, gold, "a", metric="f1")
    ranks = Result.of(gold, gold, "b", metric="spearman", gold=gold)
    baseline = accept_cells(
        Baseline(), records(tmp_path / "old", (cell(0), f1), (cell(1), ranks)), FIRST
    )
    noisy = np.clip(gold - 0.1 * rng.random(2000), 0, 1)
    worse = (
        Result.of(gold, noisy, "c", metric="f1"),
        Result.of(gold, rng.random(2000), "d", metric="spearman", gold=gold),
    )
    runs = records(tmp_path / "new", (cell(0), worse[0]), (cell(1), worse[1]), kind="another")
    assert [f.status for f in compare(baseline, runs)] == ["loss"] * 3
