"""Multiple-choice knapsacks: the few options that the Lagrangian bound leaves to a solver."""

from __future__ import annotations

import numpy as np

DOUBLINGS, HALVINGS = 200, 100  # enough to bring any price from 1 to its last bit


def undecided(goal: np.ndarray, used: np.ndarray, limit: float) -> np.ndarray:
    """Options that a choice of least ``goal``, with ``used`` within ``limit``, may contain.

    For any price >= 0, the sum over layers of min(goal + price used), minus price limit, is at most
    the optimum. An option whose reduced cost lifts this bound above the value of some feasible
    choice is in no optimal one.

    Args:
        goal: (layers, options), at least 0; infinite for options that do not exist.
        used: the same shape; the smallest of every layer is 0, so that a choice within any limit >=
            0 exists.
        limit: at least 0.

    Returns:
        (layers, options) mask; every layer keeps an option, and all of them together a feasible
        choice.

    """
    exists, rows = np.isfinite(goal), np.arange(len(goal))
    size = np.where(exists, used, 0.0)

    def best(price: float) -> np.ndarray:
        chosen: np.ndarray = (goal + price * size).argmin(1)
        return chosen

    def fits(chosen: np.ndarray) -> bool:
        return float(size[rows, chosen].sum()) <= limit

    low, high = 0.0, 0.0 if fits(best(0.0)) else 1.0
    for _ in range(DOUBLINGS):
        if fits(best(high)):
            break
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(best(middle)) else (middle, high)
    start = best(high)
    if not fits(start):
        start = np.where(exists, used, np.inf).argmin(1)
    chosen = _filled(start, goal, size, limit)
    priced = goal + high * size
    least = priced.min(1, keepdims=True)
    upper = float(goal[rows, chosen].sum())
    slack = upper - (float(least.sum()) - high * limit)
    rounding = 1e-9 * (upper + high * limit)  # of sums of thousands of floats, with much to spare
    keep: np.ndarray = exists & (priced - least <= slack + rounding)
    keep[rows, chosen] = True
    return keep


def _filled(chosen: np.ndarray, goal: np.ndarray, size: np.ndarray, limit: float) -> np.ndarray:
    """A feasible choice made better one layer at a time, while the limit allows."""
    rows = np.arange(len(goal))
    while True:
        saved = goal[rows, chosen][:, None] - goal
        extra = size - size[rows, chosen][:, None]
        saved = np.where(extra <= limit - size[rows, chosen].sum(), saved, 0.0)
        layer, option = np.unravel_index(saved.argmax(), saved.shape)
        if not saved[layer, option] > 0:
            return chosen
        chosen[layer] = option
