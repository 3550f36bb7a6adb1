"""Leaderboards: intervals of ranks from draws of the examples, and ties that are called ties."""

from types import SimpleNamespace

import numpy as np
import pytest

from quantbench.evidence.result import Result
from quantbench.report.page import ranking
from quantbench.report.page.entries import Entry

N = 2000


def entry(method, right, seed=0, seeds=1, network="net"):
    """A method that has a share of the examples right, drawn at random."""
    runs = {}
    for s in range(seeds):
        scores = np.random.default_rng([seed, s]).random(N) < right
        runs[s] = Result.of(np.ones(N, bool), scores, "d")
    scheme = SimpleNamespace(weights=SimpleNamespace(range="mse"))
    return Entry(network, "set", scheme, "w4", method, (), "", runs, {}, "c")


@pytest.fixture(autouse=True)
def _cache(root):
    """Nothing that another test has kept."""


def test_what_the_examples_cannot_tell_apart_is_a_tie():
    board = [entry("a", 0.90, 1), entry("b", 0.897, 2), entry("c", 0.50, 3)]
    a, b, c = ranking.leaderboard({"net, w4": board})
    assert [p.method for p in (a, b, c)] == ["a", "b", "c"]
    assert (a.tie, b.tie, c.tie) == (1, 1, 2)
    assert (a.low, a.high, b.low, b.high) == (1, 2, 1, 2)
    assert (c.rank, c.low, c.high) == (3, 3, 3)


def test_equal_answers_share_their_rank():
    board = [entry("a", 0.9, 1), entry("b", 0.9, 1)]
    assert [(p.rank, p.low, p.high) for p in ranking.leaderboard({"x": board})] == [
        (1.5, 1.5, 1.5)
    ] * 2


def test_paired_draws_tell_apart_what_independent_ones_would_not():
    base = entry("a", 0.8, 1)
    fewer = base.runs[0].scores.copy()
    fewer[np.flatnonzero(fewer)[:20]] = False  # never better: 1 point, far within either's interval
    worse = Entry(**{**vars(base), "method": "b"})
    worse = Entry(**{**vars(worse), "runs": {0: Result.of(np.ones(N, bool), fewer, "d")}})
    first, second = ranking.leaderboard({"x": [base, worse]})
    assert (first.tie, second.tie) == (1, 2)


def test_seeds_are_averaged_before_the_examples_are_drawn():
    (p, _) = ranking.leaderboard({"x": [entry("a", 0.9, 1, seeds=3), entry("b", 0.4)]})
    assert p.accuracy == pytest.approx(90, abs=1.5)


def test_cells_that_methods_share_make_a_board_of_their_own():
    boards = {
        f"net{i}, w4": [entry(m, r, 10 * i + j, network=f"net{i}") for j, (m, r) in enumerate(some)]
        for i, some in enumerate(
            (
                (("a", 0.9), ("b", 0.6), ("c", 0.5)),
                (("a", 0.8), ("b", 0.7), ("c", 0.5), ("d", 0.99)),
                (("a", 0.8), ("d", 0.7)),
            )
        )
    }
    placed = ranking.leaderboard(boards)
    first = [p for p in placed if p.board == placed[0].board]
    assert "3 methods" in first[0].board
    assert "2 cells" in first[0].board
    assert [p.method for p in first] == ["a", "b", "c"]
    own = [p for p in placed if p.board == "net1, w4"]
    assert own[0].method == "d"
    assert not any("share" in p.board for p in ranking.leaderboard(dict([*boards.items()][2:])))


def test_rank_correlations_are_computed_anew_in_every_draw(monkeypatch):
    monkeypatch.setattr(ranking, "FEW", 40)
    rng = np.random.default_rng(0)
    gold = rng.random(200)

    def similar(noise):
        scores = (gold + noise * rng.standard_normal(200)).astype(np.float32)
        made = Result.of(scores, scores, "d", metric="spearman", gold=gold.astype(np.float32))
        return Entry(**{**vars(entry(f"noise {noise}", 0.5)), "runs": {0: made}})

    good, bad = ranking.leaderboard({"x": [similar(1.0), similar(0.1)]})
    assert (good.method, good.rank, bad.rank) == ("noise 0.1", 1.0, 2.0)


def test_a_board_is_kept_and_made_anew_when_scores_change(monkeypatch):
    made = []
    real = ranking._all
    monkeypatch.setattr(ranking, "_all", lambda *about: made.append(1) or real(*about))
    board = [entry("a", 0.9, 1), entry("b", 0.8, 2)]
    assert ranking.leaderboard({"x": board}) == ranking.leaderboard({"x": board})
    assert len(made) == 1
    ranking.leaderboard({"x": [board[0], entry("b", 0.8, 3)]})
    assert len(made) == 2


def test_ties_of_three_seeds_are_those_of_whole_numbers():
    board = [entry("a", 0.9, 1, seeds=3), entry("b", 0.9, 2, seeds=3), entry("c", 0.9, 3)]
    values = ranking.draws(board)
    sums = [sum(r.scores.astype(int) for r in e.runs.values()) for e in board]
    sums[2] = 3 * sums[2]
    totals = ranking._counts("set", N).astype(int) @ np.stack(sums, axis=1)
    for i, j in ((0, 1), (0, 2)):
        tie = totals[:, i] == totals[:, j]
        assert tie.any()
        assert np.array_equal(values[:, i] == values[:, j], tie)
    assert values == pytest.approx(100 * totals / (3 * N), abs=1e-8)


def test_sets_of_as_many_examples_are_drawn_independently():
    assert np.array_equal(ranking._counts("set", N), ranking._counts("set", N))
    assert not np.array_equal(ranking._counts("set", N), ranking._counts("other", N))


def test_calibrations_of_one_call_are_two_methods_of_the_shared_board():
    def board(network, seed):
        some = [entry(m, r, seed + i, network=network) for i, (m, r) in enumerate(RIGHT)]
        return [Entry(**{**vars(e), "calib": c}) for e, c in zip(some, "xyz", strict=True)]

    placed = ranking.leaderboard({"one": board("one", 0), "two": board("two", 5)})
    shared = [p.method for p in placed if "share" in p.board]
    assert shared == ["a, x", "a, y", "b"]


RIGHT = (("a", 0.9), ("a", 0.7), ("b", 0.5))


def test_of_shared_boards_as_large_the_first_by_name_is_shown():
    some = {
        f"{m}{i}": [entry(f"{m}{j}", 0.5 + 0.1 * j, 3 * i + j) for j in range(3)]
        for m in "dcba"
        for i in range(2)
    }
    for boards in (some, dict(reversed(some.items()))):
        placed = ranking.leaderboard(boards)
        assert [p.method for p in placed if "share" in p.board] == ["a2", "a1", "a0"]
