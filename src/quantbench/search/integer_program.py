"""A multiple-choice knapsack as a binary program, solved to proven optimality by HiGHS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from quantbench.errors import BadInput

# of rows and integrality, on numbers scaled to at most 1: far below one weight's bits
TOLERANCE = 1e-9

SETTINGS: Mapping[str, Any] = {  # deterministic, and to proven optimality
    "output_flag": False,
    "threads": 1,
    "random_seed": 0,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
    "mip_feasibility_tolerance": TOLERANCE,
    "primal_feasibility_tolerance": TOLERANCE,
}


def solve(
    goal: np.ndarray, used: np.ndarray, limit: float, keep: np.ndarray
) -> tuple[np.ndarray, str, float, float]:
    """Binary program min goal x, used x <= limit, sum of x per layer = 1, over the kept options.

    Args:
        goal: (layers, options) what is minimised.
        used: (layers, options) what is limited.
        limit: on the sum of ``used``.
        keep: (layers, options) mask of the options that may be chosen.

    Returns:
        chosen option of every layer, status, relative gap, bound on the goal.

    """
    import highspy

    n, layers = int(keep.sum()), len(goal)
    costs, sizes = goal[keep], used[keep]
    scale_cost, scale_size = (float(v.max()) or 1.0 for v in (costs, sizes))
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n, layers + 1
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = costs / scale_cost, np.zeros(n), np.ones(n)
    lp.row_lower_ = np.append(np.ones(layers), -highspy.kHighsInf)
    lp.row_upper_ = np.append(np.ones(layers), limit / scale_size)
    lp.integrality_ = [highspy.HighsVarType.kInteger] * n
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *keep.sum(1), n]).astype(np.int32)
    lp.a_matrix_.index_ = np.tile(np.arange(n, dtype=np.int32), 2)
    lp.a_matrix_.value_ = np.append(np.ones(n), sizes / scale_size)
    solver = highspy.Highs()
    for key, value in SETTINGS.items():
        solver.setOptionValue(key, value)
    solver.passModel(lp)
    solver.run()
    status, info = solver.modelStatusToString(solver.getModelStatus()), solver.getInfo()
    x = np.full(goal.shape, -1.0)
    x[keep] = solver.getSolution().col_value or 0.0
    if not math.isfinite(info.mip_gap):
        raise BadInput(f"HiGHS found no allocation: {status}")
    return x.argmax(1), status, float(info.mip_gap), float(info.mip_dual_bound) * scale_cost
