"""Numbers that executors derive from a program's scales, each computed in one way only.

A multiplier is a ratio of scales. Were it computed once in binary32 and once in binary64, two
executors would round some codes apart: so it is made here, in binary64, and rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantbench.integer.ir import Format

Whole = NDArray[np.int64]


def conv_multiplier(
    s_x: float, weight_scale: NDArray[np.float32], s_y: float | None
) -> NDArray[np.float32]:
    """M (O,) of a Conv; ``s_y`` None for logits."""
    m = np.float64(s_x) * weight_scale.astype(np.float64)
    return (m if s_y is None else m / np.float64(s_y)).astype(np.float32)


def ratio(s_x: float, s_y: float, count: int = 1) -> np.float32:
    """``f32(s_x / (s_y * count))``, the multiplier of Add, Concat, AvgPool and of a residual."""
    return np.float32(np.float64(s_x) / (np.float64(s_y) * count))


def product_ratio(s_a: float, s_b: float, s_y: float) -> np.float32:
    """``f32(s_a * s_b / s_y)``, the multiplier of Mul."""
    return np.float32(np.float64(s_a) * np.float64(s_b) / np.float64(s_y))


@dataclass(frozen=True, eq=False)
class Taps:
    """Between which inputs each output of a bilinear interpolation lies, along one direction.

    Attributes:
        lower: number of the input before it, (m,).
        upper: of the one behind it, (m,); the same at the end.
        weight: of ``upper``, in parts of ``whole``, (m,); ``lower`` has the rest.
        whole: the sum of both weights.

    """

    lower: Whole
    upper: Whole
    weight: Whole
    whole: int


def taps(n: int, m: int, *, align_corners: bool) -> Taps:
    """Of ``m`` outputs over ``n`` inputs, in whole numbers, as ``quantbench.integer`` has it."""
    o = np.arange(m, dtype=np.int64)
    if align_corners:
        top, bottom = o * (n - 1), max(m - 1, 1)
    else:
        top, bottom = ((2 * o + 1) * n - m).clip(0, 2 * m * (n - 1)), 2 * m
    common = math.gcd(bottom, *top.tolist())
    top, bottom = top // common, bottom // common
    lower = top // bottom
    return Taps(lower, np.minimum(lower + 1, n - 1), top % bottom, bottom)


def interpolation(n: int, m: int, *, align_corners: bool) -> NDArray[np.float32]:
    """The weights of ``taps`` as a matrix (m, n)."""
    t = taps(n, m, align_corners=align_corners)
    weights = np.zeros((m, n), np.float32)
    np.add.at(weights, (np.arange(m), t.lower), (t.whole - t.weight) / t.whole)
    np.add.at(weights, (np.arange(m), t.upper), t.weight / t.whole)
    return weights


def split_format(y: Format, residual: Format) -> Format:
    """8-bit format of a layer's own output, for runtimes that cannot keep it inside a residual add.

    With y clamped to its format, the layer alone gave y - r: at least the lowest y less the highest
    residual, at most the highest y less the lowest. What lies outside is clamped by the add anyway,
    so nothing is lost but steps.
    """
    low = (y.lo - y.zero) * y.scale - (residual.hi - residual.zero) * residual.scale
    high = (y.hi - y.zero) * y.scale - (residual.lo - residual.zero) * residual.scale
    scale = (high - low) / 255
    return Format(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def known(f: Format | None) -> Format:
    """A format that a validated program must have here."""
    assert f is not None
    return f
