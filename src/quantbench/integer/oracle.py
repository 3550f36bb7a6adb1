"""The oracle: integer inference as ``quantbench.integer`` defines it, in plain NumPy.

It runs one operator at a time, to be compared with the definition, not to be fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.integer.dispatch import entry
from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Codes,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Format,
    Island,
    Lut,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pool,
    Program,
    Rearrange,
    Resize,
    Select,
)
from quantbench.integer.scales import conv_multiplier, known, product_ratio, ratio, taps
from quantbench.integer.validate import validate_images

Ints = NDArray[np.int64]

Floats = NDArray[np.floating[Any]]

Tensor = NDArray[Any]


def quantize_input(images: Floats, program: Program) -> Codes:
    """Codes (N, C, H, W) of float32 images."""
    return quantize(images.astype(np.float32) / np.float32(program.input.scale), program.input)


def run(program: Program, images: Tensor) -> dict[str, Tensor]:
    """Every tensor of a validated program by name, the network input included.

    Args:
        program: what to run.
        images: float32 images (N, C, H, W), or uint8 codes of the same shape.

    Returns:
        uint8 codes, and float32 for tensors without a format, each (N, C, H, W).

    """
    validate_images(images, program)
    first = images if images.dtype == np.uint8 else quantize_input(images, program)
    tensors: dict[str, Tensor] = {"input": first}
    formats = program.formats
    for op in program.ops:
        inputs = [tensors[i] for i in op.inputs]
        tensors[op.output] = apply(op, inputs, [formats[i] for i in op.inputs])
    return tensors


def apply(op: Op, inputs: list[Tensor], formats: list[Any]) -> Tensor:
    """Output (N, C, H, W) of one operator, from codes (N, C, H, W) and their formats.

    Raises:
        Unsupported: an operator without a definition here.

    """
    return entry(APPLY, op, "the oracle")(op, inputs, formats)


def quantize(t: Floats, y: Format) -> Codes:
    """The definition's ``quantize``: ``t`` is a real value over the scale of ``y``."""
    clamped = np.clip(np.rint(t), y.lo - y.zero, y.hi - y.zero)
    return (clamped.astype(np.int64) + y.zero).astype(np.uint8)


def _conv(op: Conv, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    f, y = formats[0], op.out
    acc = _products(op, inputs[0].astype(np.float64) - f.zero)
    acc += op.bias.astype(np.int64)[:, None, None]
    m = conv_multiplier(f.scale, op.weight_scale, None if y is None else y.scale)
    t = acc.astype(np.float32) * m[:, None, None]
    if y is None:
        return t
    if len(inputs) > 1:
        t = t + _scaled(inputs[1], formats[1], y)
    return np.clip(quantize(t, y), op.lo[:, None, None], op.hi[:, None, None])


def _products(op: Conv, x: NDArray[np.float64]) -> Ints:
    """Sums of whole numbers, as products of float64 matrices, for which there are fast libraries.

    A program's sums of |products| are below 2^31 (``validate``), and float64 holds every whole
    number up to 2^53, so that nothing is rounded, in whatever order the terms are added.
    """
    v = op.weight.astype(np.float64) - op.weight_zero[:, None, None, None]
    outs, per_group, kh, kw = v.shape
    windows = _windows(x, (kh, kw), op.stride, op.pads, op.dilation, fill=0)
    n, _, oh, ow = windows.shape[:4]
    # (N, C, OH, OW, kh, kw) to (N, groups, terms of a sum, positions), in the weights' order
    taps = windows.reshape(n, op.groups, per_group, oh, ow, kh, kw).transpose(0, 1, 2, 5, 6, 3, 4)
    taps = taps.reshape(n, op.groups, per_group * kh * kw, oh * ow)
    sums = v.reshape(op.groups, outs // op.groups, -1) @ taps
    return sums.astype(np.int64).reshape(n, outs, oh, ow)


def _add(op: Add, inputs: list[Tensor], formats: list[Format]) -> Codes:
    y = known(op.out)
    a, b = (_scaled(x, f, y) for x, f in zip(inputs, formats, strict=True))
    return np.clip(quantize(a + b, y), op.lo, op.hi).astype(np.uint8)


def _mul(op: Mul, inputs: list[Tensor], formats: list[Format]) -> Codes:
    y = known(op.out)
    a, b = (x.astype(np.int64) - f.zero for x, f in zip(inputs, formats, strict=True))
    m = product_ratio(formats[0].scale, formats[1].scale, y.scale)
    return quantize((a * b).astype(np.float32) * m, y)


def _concat(op: Concat, inputs: list[Tensor], formats: list[Format]) -> Codes:
    y = known(op.out)
    parts = [quantize(_scaled(x, f, y), y) for x, f in zip(inputs, formats, strict=True)]
    return np.concatenate(parts, axis=1)


def _scaled(x: Tensor, f: Format, y: Format) -> NDArray[np.float32]:
    """``f32(f32(x - z_x) * f32(s_x / s_y))``."""
    m = ratio(f.scale, y.scale)
    scaled: NDArray[np.float32] = (x.astype(np.int64) - f.zero).astype(np.float32) * m
    return scaled


def _windows(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
    *,
    fill: int,
) -> Tensor:
    """(N, C, OH, OW, kh, kw): the window under every output position."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _pool_windows(op: Pool, x: Tensor, *, fill: int) -> Tensor:
    return _windows(x, op.kernel, op.stride, op.pads, (1, 1), fill=fill)


def _max_pool(op: MaxPool, inputs: list[Tensor], _: list[Format]) -> Codes:
    windows = _pool_windows(op, inputs[0], fill=0)  # no code is below 0
    best: Codes = np.max([windows[..., i, j] for i, j in np.ndindex(op.kernel)], axis=0)
    return best


def _avg_pool(op: AvgPool, inputs: list[Tensor], formats: list[Format]) -> Codes:
    x, f, y = inputs[0], formats[0], known(op.out)
    total = _pool_windows(op, x.astype(np.int64) - f.zero, fill=0).sum((-2, -1))
    inside = np.ones((1, 1, *x.shape[2:]), np.int64)
    counted = _pool_windows(op, inside, fill=int(op.count_padding)).sum((-2, -1))
    multiplier = np.vectorize(lambda n: ratio(f.scale, y.scale, n), otypes=[np.float32])
    return quantize(total.astype(np.float32) * multiplier(counted), y)


def _lrn(op: LRN, inputs: list[Tensor], formats: list[Format]) -> Codes:
    """In binary64 throughout; u^(3/4) is sqrt(u) * sqrt(sqrt(u)).

    In real numbers a = s_x d with d = x - z_x, and the paper divides a by u^beta with
    u = k + alpha / n * sum a^2. The scale leaves the sum as s_x^2, and the sum, of whole numbers
    below 2^53, is exact. Square roots are correctly rounded everywhere, a power is not: hence a
    beta of 3/4 alone.
    """
    f, y = formats[0], known(op.out)
    d = inputs[0].astype(np.int64) - f.zero
    before, after = op.size // 2, (op.size - 1) // 2
    padded = np.pad(d * d, ((0, 0), (before, after), (0, 0), (0, 0)))
    squares = np.lib.stride_tricks.sliding_window_view(padded, op.size, axis=1).sum(-1)
    s = np.float64(f.scale)
    u = op.k + (op.alpha / op.size * (s * s)) * squares.astype(np.float64)
    t = d.astype(np.float64) * (s / np.float64(y.scale)) / (np.sqrt(u) * np.sqrt(np.sqrt(u)))
    return quantize(t, y)


def _lut(op: Lut, inputs: list[Tensor], _: list[Format]) -> Codes:
    codes: Codes = op.table[inputs[0]]
    return codes


def _pad(op: Pad, inputs: list[Tensor], formats: list[Format]) -> Codes:
    front, back, top, left, bottom, right = op.pads
    x = inputs[0][:, :, :: op.stride[0], :: op.stride[1]]
    amounts = ((0, 0), (front, back), (top, bottom), (left, right))
    return np.pad(x, amounts, constant_values=formats[0].zero)


def _select(op: Select, inputs: list[Tensor], _: list[Format]) -> Tensor:
    return inputs[0][:, list(op.channels)]


def _rearrange(op: Rearrange, inputs: list[Tensor], _: list[Format]) -> Tensor:
    split = inputs[0].reshape(-1, *op.split)
    return split.transpose(0, *(a + 1 for a in op.axes)).reshape(-1, *op.into)


def _resize(op: Resize, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    f, acc, parts = formats[0], inputs[0].astype(np.int64) - formats[0].zero, 1
    for axis, m in zip((2, 3), op.size, strict=True):
        t = taps(acc.shape[axis], m, align_corners=op.align_corners)
        w = np.expand_dims(t.weight, tuple({0, 1, 2, 3} - {axis}))
        acc = acc.take(t.lower, axis) * (t.whole - w) + acc.take(t.upper, axis) * w
        parts *= t.whole
    scaled = acc.astype(np.float32) * ratio(f.scale, 1.0 if op.out is None else op.out.scale, parts)
    return scaled if op.out is None else quantize(scaled, op.out)


def _flatten(_: Flatten, inputs: list[Tensor], __: list[Format]) -> Tensor:
    return inputs[0].reshape(len(inputs[0]), math.prod(inputs[0].shape[1:]), 1, 1)


def _dequantize(_: Dequantize, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    return _real(inputs[0], formats[0])


def _island(op: Island, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    import torch

    floats = [_real(x, f) for x, f in zip(inputs, formats, strict=True)]
    with torch.no_grad():
        t: Tensor = op.function(*map(torch.from_numpy, floats)).numpy()
    return t if op.out is None else quantize(t / np.float32(op.out.scale), op.out)


def _real(x: Tensor, f: Format) -> NDArray[np.float32]:
    steps = (x.astype(np.int64) - f.zero).astype(np.float32)
    real: NDArray[np.float32] = steps * np.float32(f.scale)
    return real


APPLY: dict[type[Op], Callable[[Any, list[Tensor], list[Any]], Tensor]] = {
    Conv: _conv,
    Add: _add,
    Mul: _mul,
    Concat: _concat,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    LRN: _lrn,
    Lut: _lut,
    Pad: _pad,
    Select: _select,
    Rearrange: _rearrange,
    Resize: _resize,
    Flatten: _flatten,
    Dequantize: _dequantize,
    Island: _island,
}
