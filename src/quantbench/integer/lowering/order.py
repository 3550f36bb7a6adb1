"""Which direction of a tensor an operator takes for its channels, as changes of order.

A program's operators have their channels first. A linear layer of tokens (T, C) has them last, and
so has one of images (H, W, C): the tensor is turned for it, and its result is turned back. A
constant for each position has them everywhere: then all positions are channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from quantbench.quantization.placement.kinds import EVERYWHERE, plane


def front(sizes: Sequence[int], axis: int) -> dict[str, Any]:
    """Fields of the ``Rearrange`` that puts a direction of one example in front of the others."""
    if axis == EVERYWHERE:
        whole = math.prod(sizes)
        return {"split": (whole,), "axes": (0,), "into": (whole, 1, 1)}
    axes = _axes(len(sizes), axis)
    shape = plane((1, *(sizes[a] for a in axes)))
    return {"split": tuple(map(int, sizes)), "axes": axes, "into": shape}


def back(sizes: Sequence[int], axis: int, *, dropped: bool) -> dict[str, Any]:
    """The way back, to the sizes of one example of a result.

    Args:
        sizes: of the result.
        axis: of the operator.
        dropped: whether a direction is gone; what is left is in order then.

    """
    shape = plane((1, *sizes))
    if axis == EVERYWHERE or dropped:
        return {"split": (math.prod(sizes),), "axes": (0,), "into": shape}
    axes = _axes(len(sizes), axis)
    split = tuple(int(sizes[a]) for a in axes)
    return {"split": split, "axes": tuple(axes.index(a) for a in range(len(sizes))), "into": shape}


def _axes(count: int, axis: int) -> tuple[int, ...]:
    return axis, *(a for a in range(count) if a != axis)
