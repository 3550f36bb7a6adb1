"""What values must be, whichever operator has them; every refusal names the place."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantbench.errors import BadInput

LARGEST = 1 << 16  # rows, columns and channels: products of three still fit in int64

TINY, HUGE = 2.0**-96, 2.0**64  # multipliers: f32(acc) * m is then normal and finite, whatever acc


def require(holds: bool, message: str) -> None:
    """Raise BadInput with the message unless the condition holds."""
    if not holds:
        raise BadInput(message)


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, and not a truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require_window(kernel: Any, stride: Any, pads: Any, dilation: Any, where: str) -> None:
    """A window's geometry: positive sizes, and paddings on four sides."""
    require_whole(kernel, 2, 1, f"{where}: kernel")
    require_whole(stride, 2, 1, f"{where}: stride")
    require_whole(dilation, 2, 1, f"{where}: dilation")
    require_whole(pads, 4, 0, f"{where}: pads")


def require_whole(values: Any, count: int, least: int, where: str) -> None:
    """A tuple of ``count`` whole numbers from ``least`` to ``LARGEST``."""
    right = isinstance(values, tuple) and len(values) == count
    inside = right and all(is_whole(v) and least <= v <= LARGEST for v in values)
    rule = f"must be {count} whole numbers from {least} to {LARGEST}"
    require(inside, f"{where} {values!r} {rule}")


def require_multipliers(values: Any, where: str) -> None:
    """Ratios of scales by which every accumulator can be multiplied in binary32."""
    m = np.asarray(values, dtype=np.float64)
    normal = np.isfinite(m) & (m >= TINY) & (m <= HUGE)
    require(bool(normal.all()), f"{where}: a ratio of scales is not in 2^-96..2^64")


def require_array(value: Any, dtype: Any, shape: tuple[int, ...], where: str) -> None:
    """An array of one type and shape."""
    right = isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape
    require(right, f"{where} is not {np.dtype(dtype).name} {shape}")
