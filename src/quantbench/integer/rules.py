"""What each operator must satisfy, given the formats and shapes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput
from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
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
    Shape,
    conv_multiplier,
    output_shape,
    ratio,
)

LARGEST = 1 << 16  # rows, columns and channels: products of three still fit in int64

TINY, HUGE = 2.0**-96, 2.0**64  # multipliers: f32(acc) * m is then normal and finite, whatever acc

_ARITY = {Conv: (1, 2), Add: (2, 2), Concat: (1, 1 << 16), Island: (1, 1 << 16)}

_VECTORS = {
    "weight_zero": np.int16,
    "weight_scale": np.float32,
    "bias": np.int32,
    "lo": np.uint8,
    "hi": np.uint8,
}


def require_operator(op: Op, formats: list[Format], shapes: list[Shape], where: str) -> None:
    """Check one operator.

    Raises:
        BadInput: beginning with ``where``.

    """
    least, most = _ARITY.get(type(op), (1, 1))
    require(least <= len(op.inputs) <= most, f"{where}: {len(op.inputs)} inputs")
    require(
        op.out is not None or isinstance(op, Conv | Dequantize | Island),
        f"{where}: has no output format",
    )
    require(type(op) in _RULES, f"{where}: unknown operator")
    _RULES[type(op)](op, formats, shapes, where)


def accumulator_bound(op: Conv, largest: int) -> NDArray[np.int64]:
    """Largest |acc| (O,) that inputs with |x - zero| <= ``largest`` can reach."""
    v = op.weight.astype(np.int64) - op.weight_zero.astype(np.int64)[:, None, None, None]
    bound: NDArray[np.int64] = np.abs(v).sum((1, 2, 3)) * largest + np.abs(op.bias.astype(np.int64))
    return bound


def require(holds: bool, message: str) -> None:
    """Raise BadInput with the message unless the condition holds."""
    if not holds:
        raise BadInput(message)


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, and not a truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _conv(op: Conv, formats: list[Format], shapes: list[Shape], where: str) -> None:
    array = isinstance(op.weight, np.ndarray) and op.weight.dtype == np.int8 and op.weight.ndim == 4
    require(array, f"{where}: weight is not int8 (O, I, kh, kw)")
    outs, per_group, kh, kw = op.weight.shape
    require(
        is_whole(op.groups) and op.groups >= 1 and outs >= 1,
        f"{where}: {op.groups} groups, {outs} outputs",
    )
    fits = outs % op.groups == 0 and per_group * op.groups == shapes[0][0]
    grouped = f"weight {op.weight.shape} with {op.groups} groups"
    require(fits, f"{where}: {grouped} does not fit {shapes[0][0]} channels")
    for name, dtype in _VECTORS.items():
        _array(getattr(op, name), dtype, (outs,), f"{where}: {name}")
    _window((kh, kw), op.stride, op.pads, op.dilation, where)
    require(
        is_whole(op.weight_bits) and 2 <= op.weight_bits <= 8,
        f"{where}: {op.weight_bits} weight bits",
    )
    zeros = np.abs(op.weight_zero.astype(np.int32))
    require(bool((zeros <= 255).all()), f"{where}: a weight zero point outside -255..255")
    x = formats[0]
    _multipliers(
        conv_multiplier(x.scale, op.weight_scale, None if op.out is None else op.out.scale), where
    )
    bound = accumulator_bound(op, max(x.zero - x.lo, x.hi - x.zero))
    advice = "use fewer bits or a coarser weight scale"
    require(bool((bound < 1 << 31).all()), f"{where}: an accumulator could leave int32; {advice}")
    if op.out is None:
        require(len(op.inputs) == 1, f"{where}: logits with a residual")
        return
    ordered = (op.lo <= op.hi) & (op.lo >= op.out.lo) & (op.hi <= op.out.hi)
    require(bool(ordered.all()), f"{where}: a clamp is outside the format, or empty")
    if len(op.inputs) > 1:
        out = output_shape(op, shapes)
        require(shapes[1] == out, f"{where}: residual {shapes[1]} on an output {out}")
        _multipliers([ratio(formats[1].scale, op.out.scale)], where)


def _add(op: Add, formats: list[Format], shapes: list[Shape], where: str) -> None:
    f = _out(op)
    right = is_whole(op.lo) and is_whole(op.hi) and f.lo <= op.lo <= op.hi <= f.hi
    require(right, f"{where}: clamp {op.lo}..{op.hi} is outside the format")
    require(shapes[0] == shapes[1], f"{where}: adds shapes {shapes[0]} and {shapes[1]}")
    _multipliers([ratio(x.scale, f.scale) for x in formats], where)


def _concat(op: Concat, formats: list[Format], shapes: list[Shape], where: str) -> None:
    require(len({s[1:] for s in shapes}) == 1, f"{where}: concatenates shapes {shapes}")
    _multipliers([ratio(x.scale, _out(op).scale) for x in formats], where)


def _max_pool(op: MaxPool, formats: list[Format], _: list[Shape], where: str) -> None:
    _window(op.kernel, op.stride, op.pads, (1, 1), where)
    for pad, kernel in zip(op.pads, (*op.kernel, *op.kernel), strict=True):
        require(pad < kernel, f"{where}: a window could lie in the padding alone")
    require(
        isinstance(op, AvgPool) or op.out == formats[0], f"{where}: must keep its input's format"
    )


def _avg_pool(op: AvgPool, formats: list[Format], shapes: list[Shape], where: str) -> None:
    _max_pool(op, formats, shapes, where)
    area = math.prod(op.kernel)
    require(isinstance(op.count_padding, bool), f"{where}: count_padding {op.count_padding!r}")
    require(area * 255 < 1 << 31, f"{where}: window {op.kernel} could overflow int32")
    _multipliers([ratio(formats[0].scale, _out(op).scale, count) for count in (1, area)], where)


def _lrn(op: LRN, _: list[Format], __: list[Shape], where: str) -> None:
    numbers = is_whole(op.size) and isinstance(op.alpha, float) and isinstance(op.k, float)
    sane = numbers and 1 <= op.size <= 255 and 0 <= op.alpha <= HUGE and TINY <= op.k <= HUGE
    require(sane, f"{where}: size {op.size!r}, alpha {op.alpha!r}, k {op.k!r}")


def _lut(op: Lut, _: list[Format], __: list[Shape], where: str) -> None:
    _array(op.table, np.uint8, (256,), f"{where}: table")
    f = _out(op)
    require(
        bool(((op.table >= f.lo) & (op.table <= f.hi)).all()),
        f"{where}: the table leaves the format",
    )


def _pad(op: Pad, formats: list[Format], _: list[Shape], where: str) -> None:
    _whole(op.pads, 6, 0, f"{where}: pads")
    _whole(op.stride, 2, 1, f"{where}: stride")
    require(op.out == formats[0], f"{where}: must keep its input's format")


def _flatten(op: Flatten, formats: list[Format], _: list[Shape], where: str) -> None:
    require(op.out == formats[0], f"{where}: must keep its input's format")


def _dequantize(op: Dequantize, _: list[Format], __: list[Shape], where: str) -> None:
    require(op.out is None, f"{where}: gives floats, so it has no format")


def _island(op: Island, _: list[Format], __: list[Shape], where: str) -> None:
    require(callable(op.function), f"{where}: has no function")


_RULES: dict[type[Op], Callable[[Any, list[Format], list[Shape], str], None]] = {
    Conv: _conv,
    Add: _add,
    Concat: _concat,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    LRN: _lrn,
    Lut: _lut,
    Pad: _pad,
    Flatten: _flatten,
    Dequantize: _dequantize,
    Island: _island,
}


def _window(kernel: Any, stride: Any, pads: Any, dilation: Any, where: str) -> None:
    _whole(kernel, 2, 1, f"{where}: kernel")
    _whole(stride, 2, 1, f"{where}: stride")
    _whole(dilation, 2, 1, f"{where}: dilation")
    _whole(pads, 4, 0, f"{where}: pads")


def _whole(values: Any, count: int, least: int, where: str) -> None:
    right = isinstance(values, tuple) and len(values) == count
    require(
        right and all(is_whole(v) and least <= v <= LARGEST for v in values), f"{where} {values!r}"
    )


def _multipliers(values: Any, where: str) -> None:
    m = np.asarray(values, dtype=np.float64)
    normal = np.isfinite(m) & (m >= TINY) & (m <= HUGE)
    require(bool(normal.all()), f"{where}: a ratio of scales is not in 2^-96..2^64")


def _array(value: Any, dtype: Any, shape: tuple[int, ...], where: str) -> None:
    right = isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape
    require(right, f"{where} is not {np.dtype(dtype).name} {shape}")


def _out(op: Op) -> Format:
    assert op.out is not None
    return op.out
