"""The oracle: integer inference as ``quantbench.integer`` defines it, in plain NumPy, one operator at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    Op,
    Pad,
    Program,
    conv_multiplier,
    ratio,
)
from quantbench.integer.validate import validate_images

Ints = NDArray[np.int64]

Floats = NDArray[np.floating[Any]]

Tensor = NDArray[Any]


def quantize_input(images: Floats, program: Program) -> Codes:
    """Codes (N, C, H, W) of float32 images."""
    return quantize(images.astype(np.float32) / np.float32(program.input.scale), program.input)


def run(program: Program, images: Tensor) -> dict[str, Tensor]:
    """Every tensor of a checked program by name, the network input included.

    Args:
        program: what to run.
        images: float32 images (N, C, H, W), or uint8 codes of the same shape.

    Returns:
        uint8 codes, and float32 for tensors without a format, each (N, C, H, W).

    """
    validate_images(images, program)
    tensors: dict[str, Tensor] = {
        "input": images if images.dtype == np.uint8 else quantize_input(images, program)
    }
    formats = program.formats
    for op in program.ops:
        inputs = [tensors[i] for i in op.inputs]
        tensors[op.output] = apply(op, inputs, [formats[i] for i in op.inputs])
    return tensors


def apply(op: Op, inputs: list[Tensor], formats: list[Any]) -> Tensor:  # noqa: C901, PLR0911 - a case an operator
    """Output (N, C, H, W) of one operator, from codes (N, C, H, W) and their formats."""
    x, f = inputs[0], formats[0]
    match op:
        case Conv():
            return _conv(op, inputs, formats)
        case Add():
            assert op.out is not None
            a, b = (_scaled(x, f, op.out) for x, f in zip(inputs, formats, strict=True))
            return np.clip(quantize(a + b, op.out), op.lo, op.hi).astype(np.uint8)
        case Concat():
            assert op.out is not None
            return np.concatenate(
                [
                    quantize(_scaled(x, f, op.out), op.out)
                    for x, f in zip(inputs, formats, strict=True)
                ],
                axis=1,
            )
        case AvgPool():
            return _avg_pool(op, x, f)
        case MaxPool():
            windows = _windows(x, op.kernel, op.stride, op.pads, (1, 1), fill=0)
            best: Codes = np.max(
                [windows[..., row, column] for row, column in np.ndindex(op.kernel)], axis=0
            )
            return best
        case LRN():
            return _lrn(op, x, f)
        case Lut():
            codes: Codes = op.table[x]
            return codes
        case Pad():
            front, back, top, left, bottom, right = op.pads
            x = x[:, :, :: op.stride[0], :: op.stride[1]]
            return np.pad(
                x, ((0, 0), (front, back), (top, bottom), (left, right)), constant_values=f.zero
            )
        case Flatten():
            return x.reshape(len(x), -1, 1, 1)
        case Dequantize():
            return _real(x, f)
        case Island():
            return _island(op, inputs, formats)
    raise TypeError(type(op).__name__)


def quantize(t: Floats, y: Format) -> Codes:
    """The definition's ``quantize``: ``t`` is a real value over the scale of ``y``."""
    return (np.clip(np.rint(t), y.lo - y.zero, y.hi - y.zero).astype(np.int64) + y.zero).astype(
        np.uint8
    )


def _conv(op: Conv, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    """Sums of whole numbers, as products of float64 matrices, for which there are fast libraries.

    A program's sums of |products| are below 2^31 (``check``), and float64 holds every whole number
    up to 2^53, so that nothing is rounded, in whatever order the terms are added.
    """
    f = formats[0]
    v = op.weight.astype(np.float64) - op.weight_zero[:, None, None, None]
    outs, per_group, kh, kw = v.shape
    x = inputs[0].astype(np.float64) - f.zero
    # (N, C, OH, OW, kh, kw)
    windows = _windows(x, (kh, kw), op.stride, op.pads, op.dilation, fill=0)
    n, _, oh, ow = windows.shape[:4]
    taps = windows.reshape(n, op.groups, per_group, oh, ow, kh, kw).transpose(0, 1, 2, 5, 6, 3, 4)
    taps = taps.reshape(n, op.groups, per_group * kh * kw, oh * ow)
    acc = (
        (v.reshape(op.groups, outs // op.groups, -1) @ taps)
        .astype(np.int64)
        .reshape(n, outs, oh, ow)
    )
    acc += op.bias.astype(np.int64)[:, None, None]
    m = conv_multiplier(f.scale, op.weight_scale, None if op.out is None else op.out.scale)[
        :, None, None
    ]
    t = acc.astype(np.float32) * m
    if op.out is None:
        return t
    if len(inputs) > 1:
        t = t + _scaled(inputs[1], formats[1], op.out)
    return np.clip(quantize(t, op.out), op.lo[:, None, None], op.hi[:, None, None])


def _scaled(x: Tensor, f: Format, y: Format) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (x.astype(np.int64) - f.zero).astype(np.float32) * ratio(
        f.scale, y.scale
    )
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


def _avg_pool(op: AvgPool, x: Tensor, f: Format) -> Codes:
    assert op.out is not None
    total = _windows(
        x.astype(np.int64) - f.zero, op.kernel, op.stride, op.pads, (1, 1), fill=0
    ).sum((-2, -1))
    inside = np.ones((1, 1, *x.shape[2:]), np.int64)
    counted = _windows(
        inside, op.kernel, op.stride, op.pads, (1, 1), fill=int(op.count_padding)
    ).sum((-2, -1))
    m = np.vectorize(lambda count: ratio(f.scale, op.out.scale, count), otypes=[np.float32])(
        counted
    )  # type: ignore[union-attr]
    return quantize(total.astype(np.float32) * m, op.out)


def _lrn(op: LRN, x: Tensor, f: Format) -> Codes:
    assert op.out is not None
    d = x.astype(np.int64) - f.zero
    before, after = op.size // 2, (op.size - 1) // 2
    padded = np.pad(d * d, ((0, 0), (before, after), (0, 0), (0, 0)))
    squares = np.lib.stride_tricks.sliding_window_view(padded, op.size, axis=1).sum(-1)
    s = np.float64(f.scale)
    u = op.k + (op.alpha / op.size * (s * s)) * squares.astype(np.float64)
    t = d.astype(np.float64) * (s / np.float64(op.out.scale)) / (np.sqrt(u) * np.sqrt(np.sqrt(u)))
    return quantize(t, op.out)


def _island(op: Island, inputs: list[Tensor], formats: list[Format]) -> Tensor:
    import torch

    floats = [_real(x, f) for x, f in zip(inputs, formats, strict=True)]
    with torch.no_grad():
        t: Tensor = op.function(*map(torch.from_numpy, floats)).numpy()
    return t if op.out is None else quantize(t / np.float32(op.out.scale), op.out)


def _real(x: Tensor, f: Format) -> NDArray[np.float32]:
    real: NDArray[np.float32] = (x.astype(np.int64) - f.zero).astype(np.float32) * np.float32(
        f.scale
    )
    return real
