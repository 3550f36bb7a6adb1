"""Formats, bounds and tables of codes from what the float network says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import Codes, Format
from quantbench.quantization.grids import QParams

Bound = float | NDArray[np.float32]

# lowest and highest code: scalars, or per channel
Clamp = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def act_format(qp: QParams, name: str) -> tuple[Format, tuple[int, ...]]:
    """Unsigned codes of an activation grid, and which codes it has; signed codes are shifted up.

    Raises:
        BadInput: no range has been found yet.
        Unsupported: levels that do not fit 8 bits.

    """
    if not qp.levels:
        raise BadInput(
            f"activation quantizer {name!r} has no range yet: calibrate the network first"
        )
    shift = max(0, -qp.levels[0])
    levels = tuple(level + shift for level in qp.levels)
    zero = float(qp.zero) + shift
    if levels[-1] > 255 or zero != round(zero):
        found = f"levels up to {levels[-1]} steps, zero point {zero}"
        raise Unsupported(f"activation {name!r}: {found}, do not fit 8 bits")
    return Format(float(qp.scale), round(zero), levels[0], levels[-1]), levels


def bounds(low: Bound, high: Bound, y: Format) -> Clamp:
    """Lowest and highest code under a clamp of real values, of the tensor or per channel (C,)."""
    with np.errstate(over="ignore"):  # infinities become large
        ends = [np.nan_to_num(np.float32(v) / np.float32(y.scale)) for v in (low, high)]
    whole_steps = (np.rint(e.astype(np.float64)) + y.zero for e in ends)
    lo, hi = (np.clip(e, y.lo, y.hi).astype(np.uint8) for e in whole_steps)
    return lo, hi


def whole(y: Format) -> Clamp:
    """Bounds no narrower than the format."""
    return np.array(y.lo, np.uint8), np.array(y.hi, np.uint8)


def table(function: Callable[[Tensor], Tensor], x: Format, y: Format, name: str) -> Codes:
    """Codes (256,) of a function of one variable: of (256,) float32 values, to as many.

    Raises:
        Unsupported: the function is not defined for all codes of ``x``.

    """
    t = function((torch.arange(256) - x.zero).float() * x.scale).numpy() / np.float32(y.scale)
    if np.isnan(t[x.lo : x.hi + 1]).any():
        raise Unsupported(f"{name}: its function is not a number for some of its input's codes")
    steps = np.clip(np.rint(np.nan_to_num(t)), y.lo - y.zero, y.hi - y.zero)
    codes: Codes = (steps + y.zero).astype(np.uint8)
    return codes


def nearest_level(levels: tuple[int, ...], factor: int) -> Codes:
    """Table (256,) from a uniform grid ``factor`` times as fine to the nearest of some levels."""
    middles = (np.array(levels[1:]) + np.array(levels[:-1])) / 2
    nearest = np.searchsorted(middles, np.arange(256) / factor)
    codes: Codes = np.array(levels)[nearest].astype(np.uint8)
    return codes
