"""Letterboxing, decoding and suppression against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.tasks.detection import boxes

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


@SETTINGS
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([32, 64]))
def test_a_letterbox_is_undone(height: int, width: int, size: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    try:
        square, where = boxes.letterbox(image, size)
    except BadInput:
        assert round(min(height, width) * size / max(height, width)) == 0
        return
    inside = square[where.top : where.top + where.height, where.left : where.left + where.width]
    assert square.shape == (size, size, 3)
    assert max(where.width, where.height) == size
    assert (inside == 200).all()
    assert square.astype(int).sum() == inside.astype(int).sum()  # black around
    assert abs(where.left - (size - where.left - where.width)) <= 1
    assert abs(where.top - (size - where.top - where.height)) <= 1
    right, bottom = where.left + where.width, where.top + where.height
    corners = torch.tensor([[where.left, where.top, right, bottom], [-9, -9, 999, 999]]).float()
    whole = torch.tensor([0.0, 0.0, width, height])
    assert torch.allclose(where.back(corners), whole.expand(2, 4), atol=1e-4)


def test_an_image_at_full_length_keeps_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 32, 3)).astype(np.uint8)
    square, where = boxes.letterbox(image, 32)
    assert (where.left, where.top, where.width, where.height) == (0, 6, 32, 20)
    np.testing.assert_array_equal(square[6:26], image)


def brute_decode(
    maps: list[np.ndarray], strides: list[int], classes: int
) -> list[tuple[list[float], list[float]]]:
    """One position at a time: (scores of the classes, corners)."""
    found = []
    for logits, stride in zip(maps, strides, strict=True):
        for y in range(logits.shape[1]):
            for x in range(logits.shape[2]):
                v = logits[:, y, x].tolist()
                scores = [1 / (1 + math.exp(-s)) for s in v[:classes]]
                reach = []
                for side in range(4):
                    bins = v[classes + 8 * side : classes + 8 * side + 8]
                    p = [math.exp(b - max(bins)) for b in bins]
                    reach.append(stride * sum(i * q for i, q in enumerate(p)) / sum(p))
                cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                corners = [cx - reach[0], cy - reach[1], cx + reach[2], cy + reach[3]]
                found.append((scores, corners))
    return found


@SETTINGS
@given(st.integers(0, 1 << 30), st.integers(1, 3))
def test_decoding_is_position_by_position(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    shapes, strides = [(4, 3), (2, 2)], [8, 16]
    maps = [rng.normal(0, 3, (classes + 32, *s)).astype(np.float32) for s in shapes]
    scores, corners = boxes.decode(list(map(torch.from_numpy, maps)), strides, classes)
    expected = brute_decode(maps, strides, classes)
    np.testing.assert_allclose(scores.numpy(), [s for s, _ in expected], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(corners.numpy(), [c for _, c in expected], rtol=1e-4, atol=1e-3)


def overlap(a: list[float], b: list[float]) -> float:
    sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
    common = max(0, sides[0]) * max(0, sides[1])
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return common / (sum(areas) - common)


def brute_suppress(
    scores: np.ndarray, corners: np.ndarray, least: float, limit: float, keep: int
) -> list[tuple[float, int, list[float]]]:
    """The best of what is left, and out with what overlaps it; until nothing is left."""
    left = [
        (float(s), c, corners[i].tolist())
        for i, row in enumerate(scores)
        for c, s in enumerate(row)
        if s > least
    ]
    kept: list[tuple[float, int, list[float]]] = []
    for one in sorted(left, key=lambda r: -r[0]):
        if all(k[1] != one[1] or overlap(k[2], one[2]) <= limit for k in kept):
            kept.append(one)
    return kept[:keep]


@SETTINGS
@given(st.integers(0, 1 << 30), st.integers(1, 25), st.sampled_from([3, 100]))
def test_suppression_is_greedy_within_a_class(seed: int, positions: int, keep: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(positions * 3).reshape(positions, 3).astype(np.float32)
    scores = (scores + 0.5) / (positions * 3)  # no ties
    corner = rng.integers(0, 12, (positions, 2))
    corners = np.concatenate([corner, corner + rng.integers(3, 12, (positions, 2))], 1)
    corners = corners.astype(np.float32)
    box, score, label = boxes.suppress(
        torch.from_numpy(scores), torch.from_numpy(corners), least=0.3, overlap=0.45, keep=keep
    )
    expected = brute_suppress(scores, corners, 0.3, 0.45, keep)
    assert score.tolist() == [s for s, _, _ in expected]
    assert label.tolist() == [c for _, c, _ in expected]
    assert box.tolist() == [b for _, _, b in expected]


def test_only_the_best_candidates_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "CANDIDATES", 2)
    scores = torch.tensor([[0.2], [0.9], [0.4]])
    corners = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]])
    _, score, _ = boxes.suppress(scores, corners, least=0.1, overlap=0.5, keep=100)
    assert score.tolist() == pytest.approx([0.9, 0.4])


def test_nothing_above_the_least_score_is_no_detection() -> None:
    box, score, label = boxes.suppress(
        torch.full((3, 2), 0.05), torch.rand(3, 4), least=0.05, overlap=0.5, keep=9
    )
    assert (box.shape, score.shape, label.shape) == ((0, 4), (0,), (0,))
