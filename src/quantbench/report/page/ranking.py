"""Leaderboards: every method's rank with the interval that the sampling of examples gives it.

The same examples are drawn for all methods, so that what is easy or hard for all moves nobody. What
another seed would change is not in it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from quantbench.evidence.bootstrap import drawn_iou, drawn_ranks, drawn_spearman, times_drawn
from quantbench.report.charts.ranks import Placed
from quantbench.report.page.entries import Entry
from quantbench.report.page.kept import kept
from quantbench.system.progress import Progress, silent
from quantbench.system.seeds import seed_for

DRAWS, FEW = 1000, 200  # FEW where a draw is no product of matrices

Floats = NDArray[np.float64]

DIGITS = 9  # of points: what float64 cannot tell apart is a tie

PARTS = 20  # of the draws that are float64 at once

ENDS = (0.025, 0.975)

DRAWN = ("spearman", "miou")  # no means over examples

ALL = "every network and scheme that {n} methods share ({cells})"


def leaderboard(boards: Mapping[str, Sequence[Entry]], progress: Progress = silent) -> list[Placed]:
    """Places on every board, and on the cells that most methods have in common."""
    about = [
        (name, e.data, e.call, e.calib, [(r.quantized, r.gold) for r in e.runs.values()])
        for name, board in boards.items()
        for e in board
    ]
    rows = kept(__name__, repr(about), lambda: [asdict(p) for p in _all(boards, progress)])
    return [Placed(**row) for row in rows]


def _all(boards: Mapping[str, Sequence[Entry]], progress: Progress) -> list[Placed]:
    drawn = dict[str, Floats]()
    for number, (name, board) in enumerate(boards.items(), start=1):
        drawn[name] = draws(board)
        progress(number, len(boards), "drawing examples for the leaderboards")
    placed = [p for name, board in boards.items() for p in _placed(name, board, drawn[name])]
    return [*_together(boards, drawn), *placed]


def draws(board: Sequence[Entry]) -> Floats:
    """Metric of every entry, in points, in draws of the examples: (draws, entries).

    Equal sums of scores give equal points, however many seeds they are divided by: ranks tell by
    the last bit what is a tie.
    """
    first, data = board[0].first, board[0].data
    if first.metric not in DRAWN:
        scores = np.stack([_summed(entry) for entry in board], axis=1)
        parts = np.array_split(_counts(data, first.n), PARTS)
        sums = np.concatenate([part.astype(np.float64) @ scores for part in parts])
        n = np.array([first.n * len(e.runs) for e in board])
        return np.asarray(np.round(100 * sums / n, DIGITS))
    rng = _generator(data, first.n)
    times = times_drawn(rng.integers(0, first.n, (FEW, first.n)))
    return np.asarray(np.round(np.stack([_drawn(e, times) for e in board], axis=1), DIGITS))


def _generator(data: str, n: int) -> np.random.Generator:
    """The same for all that is measured on one set; another set has draws of its own."""
    return np.random.default_rng(seed_for("leaderboard", n, data))


@functools.lru_cache(maxsize=1)  # boards of one set come one after another
def _counts(data: str, n: int) -> NDArray[np.float32]:
    """How often every example is in a draw: (draws, n)."""
    rng = _generator(data, n)
    rows = (np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(DRAWS))
    return np.stack([row.astype(np.float32) for row in rows])


def _summed(entry: Entry) -> Floats:
    """Scores of every example, summed over seeds: exact where they are correctness."""
    each = [r.scores.astype(np.float64) for r in entry.runs.values()]
    return np.asarray(np.sum(each, axis=0))


def _drawn(entry: Entry, times: NDArray[np.intp]) -> Floats:
    """What is no mean over examples, in draws of them; mean over seeds."""
    found = [
        drawn_iou(r.scores, times)
        if r.metric == "miou"
        else drawn_spearman(drawn_ranks(r.scores, times), drawn_ranks(r.gold_scores, times), times)
        for r in entry.runs.values()
    ]
    return np.asarray(np.mean(found, axis=0))


def ranks(values: Floats) -> Floats:
    """Ranks within every draw, 1 for the largest, equal ones averaged: (draws, entries)."""
    above = (values[:, None, :] > values[:, :, None]).sum(-1)
    equal = (values[:, None, :] == values[:, :, None]).sum(-1)
    return np.asarray(above + (equal + 1) / 2)


def ties(values: Floats, order: Sequence[int]) -> dict[int, int]:
    """Number of every entry's group, from 1: those that are not told from the group's best."""
    found, best, group = {}, order[0], 1
    for i in order:
        low, high = np.quantile(values[:, best] - values[:, i], ENDS)
        if i != best and not low <= 0 <= high:
            best, group = i, group + 1
        found[i] = group
    return found


def _placed(name: str, board: Sequence[Entry], drawn: Floats) -> list[Placed]:
    labels = _labels(board)
    return _places(name, labels, [e.accuracy for e in board], drawn, ranks(drawn))


def _places(
    name: str, labels: Sequence[str], accuracy: Sequence[float], drawn: Floats, ranked: Floats
) -> list[Placed]:
    order = sorted(range(len(labels)), key=lambda i: -round(accuracy[i], DIGITS))
    low, high = np.quantile(ranked, ENDS, axis=0)
    group = ties(drawn, order)
    return [
        Placed(
            name,
            labels[i],
            round(float(ranked[:, i].mean()), 2),
            round(float(low[i]), 2),
            round(float(high[i]), 2),
            round(float(accuracy[i]), 2),
            group[i],
        )
        for i in order
    ]


def _labels(board: Sequence[Entry]) -> list[str]:
    """Methods in full, with their calibration set where that tells two apart."""
    doubled = _doubled({"": board})
    return [_label(e, doubled) for e in board]


def _label(entry: Entry, doubled: Collection[str]) -> str:
    return f"{entry.call}, {entry.calib}" if entry.call in doubled else entry.call


def _doubled(boards: Mapping[str, Sequence[Entry]]) -> set[str]:
    """Calls that stand more than once on some board."""
    counts = (Counter(e.call for e in board) for board in boards.values())
    return {call for count in counts for call, n in count.items() if n > 1}


def _together(boards: Mapping[str, Sequence[Entry]], drawn: Mapping[str, Floats]) -> list[Placed]:
    """The mean rank over several cells of the methods that all of them have; none without any."""
    doubled = _doubled(boards)
    calls = {name: [_label(e, doubled) for e in board] for name, board in boards.items()}
    best: tuple[int, list[str], list[str]] = (0, [], [])
    for methods in sorted({tuple(sorted(c)) for c in calls.values()}):
        shared = [name for name, c in calls.items() if {*methods} <= {*c}]
        size = len(methods) * len(shared)
        if len(methods) > 2 and len(shared) > 1 and size > best[0]:
            best = size, list(methods), shared
    _, labels, shared = best
    if not shared:
        return []
    columns = {name: [calls[name].index(label) for label in labels] for name in shared}
    fewest = min(len(drawn[name]) for name in shared)
    parts = [drawn[name][:fewest, columns[name]] for name in shared]
    accuracy = [
        float(np.mean([boards[name][columns[name][i]].accuracy for name in shared]))
        for i in range(len(labels))
    ]
    ranked = np.mean([ranks(part) for part in parts], axis=0)
    title = ALL.format(n=len(labels), cells=f"{len(shared)} cells")
    return _places(title, labels, accuracy, np.mean(parts, axis=0), ranked)
