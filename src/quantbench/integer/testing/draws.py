"""Random formats and layers, drawn so that most codes and accumulators are reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quantbench.integer.ir import Conv, Format
from quantbench.integer.rules import accumulator_bound

# a whole number from lo to hi; hypothesis shrinks it, a generator draws it
Draw = Callable[[int, int], int]


def random_format(draw: Draw, bits: int, near: float = 0.05) -> Format:
    """Codes of 2 to ``bits`` bits, any zero point, a scale around ``near``.

    Some ranges start above 0.
    """
    hi = 2 ** draw(2, bits) - 1
    lo = draw(0, hi // 2) if draw(0, 3) == 0 else 0
    return Format(near * 2.0 ** (draw(-20, 20) / 8), draw(lo, hi) if draw(0, 1) else lo, lo, hi)


def random_conv(
    draw: Draw, x: str, f: Format, name: str, shape: tuple[int, int, int, int], *, logits: bool
) -> Conv:
    """A convolution whose outputs mostly fall inside the output's range.

    Args:
        draw: gives the numbers.
        x: name of the input.
        f: its format.
        name: of the operator and of its output.
        shape: of the weights, (O, C / groups, kh, kw).
        logits: whether the output is float32.

    """
    bits, outs = draw(2, 8), shape[0]
    rng = np.random.default_rng(draw(0, 1 << 30))
    weight, zero = _weights(draw, rng, bits, shape)
    y = random_format(draw, 8)
    v = weight - zero[:, None, None, None]
    # of an accumulator: the root of the sum of squares, times half the largest input
    typical = np.sqrt((v * v).sum((1, 2, 3)) + 1) * max(f.hi - f.zero, f.zero) / 2
    steps = 2.0 ** (draw(-32, 4) / 8) * np.exp(rng.normal(0, 0.3, outs))
    scale = y.scale * (y.hi - y.lo) / (typical * f.scale) * steps
    lo, hi = np.full(outs, y.lo), np.full(outs, y.hi)
    if draw(0, 1):  # ReLU with a ceiling per channel
        lo[:] = max(y.lo, y.zero)
        hi = np.minimum(y.hi, np.maximum(y.zero, y.lo) + rng.integers(0, 256, outs))
    op = Conv(
        name=name,
        inputs=(x,),
        output=name,
        out=None if logits else y,
        weight=weight.astype(np.int8),
        weight_zero=zero.astype(np.int16),
        weight_scale=scale.astype(np.float32),
        bias=np.zeros(outs, np.int32),
        lo=lo.astype(np.uint8),
        hi=hi.astype(np.uint8),
        weight_bits=bits,
    )
    return replace(op, bias=_bias(draw, rng, op, f, typical))


def _weights(
    draw: Draw, rng: np.random.Generator, bits: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weights and zero points; sometimes the extremes, for extreme accumulators."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weight = rng.integers(low, high + 1, shape)
    if draw(0, 5) == 0:
        weight = rng.choice([low, high], (shape[0], 1, 1, 1)) * np.ones(shape, int)
    zero = rng.integers(low, high + 1, shape[0]) if draw(0, 1) else np.zeros(shape[0], int)
    return weight, zero


def _bias(
    draw: Draw, rng: np.random.Generator, op: Conv, f: Format, typical: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Biases: of an accumulator's size, or as large as just fits int32."""
    room = (1 << 31) - 1 - accumulator_bound(op, max(f.zero - f.lo, f.hi - f.zero))
    if draw(0, 4) != 0:
        room = np.minimum(room, typical.astype(np.int64))
    if draw(0, 3) == 0:
        return np.where(rng.random(len(room)) < 0.5, room, -room).astype(np.int32)
    return rng.integers(-room, room + 1).astype(np.int32)
