"""PReLU with a slope for each channel: what is below zero times its slope, plus what is above."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.integer import ir
from quantbench.integer.lowering.convolution import affine
from quantbench.integer.lowering.formats import whole
from quantbench.integer.lowering.order import Ordered


def prelu(
    made: Ordered, name: str, x: str, y: ir.Format, output: str, slopes: NDArray[np.float64]
) -> str:
    """Two tables that keep the format, and a convolution of each channel that adds the second.

    The tables round nothing, so the sum is rounded once.

    Args:
        made: the program so far.
        name: of the operators.
        x: codes (C, H, W).
        y: format of the output.
        output: its name.
        slopes: (C,).

    """
    f, codes = made.formats[x], np.arange(256)
    parts = []
    for end, kept in (("below", np.minimum(codes, f.zero)), ("above", np.maximum(codes, f.zero))):
        common: dict[str, Any] = {"name": name, "inputs": (x,), "out": f}
        table = kept.clip(f.lo, f.hi).astype(np.uint8)
        parts.append(made.push(ir.Lut(**common, output=f"{output}.{end}", table=table)))
    where = (tuple(parts), f, y, output, whole(y))
    return made.push(affine(name, *where, gain=slopes, shift=np.zeros_like(slopes)))
