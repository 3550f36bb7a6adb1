"""What each operator must satisfy, given the formats and shapes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    Mul,
    Op,
    Pad,
    Pool,
    Rearrange,
    Resize,
    Select,
    Shape,
)
from quantbench.integer.requirements import (
    HUGE,
    LARGEST,
    TINY,
    is_whole,
    require,
    require_array,
    require_multipliers,
    require_whole,
    require_window,
)
from quantbench.integer.scales import conv_multiplier, known, product_ratio, ratio, taps

DIRECTIONS = 16  # of a rearrangement; numpy has 64 at most, networks a handful

_ARITY = {Conv: (1, 2), Add: (2, 2), Mul: (2, 2), Concat: (1, 1 << 16), Island: (1, 1 << 16)}

# of a convolution: one number an output channel
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
    floats = isinstance(op, Conv | Resize | Dequantize | Island)
    require(op.out is not None or floats, f"{where}: has no output format")
    require(type(op) in RULES, f"{where}: unknown operator")
    RULES[type(op)](op, formats, shapes, where)
    if op.keeps_format:
        require(op.out == formats[0], f"{where}: must keep its input's format")


def accumulator_bound(op: Conv, largest: int) -> NDArray[np.int64]:
    """Largest |acc| (O,) that inputs with |x - zero| <= ``largest`` can reach."""
    v = op.weight.astype(np.int64) - op.weight_zero.astype(np.int64)[:, None, None, None]
    bound: NDArray[np.int64] = np.abs(v).sum((1, 2, 3)) * largest + np.abs(op.bias.astype(np.int64))
    return bound


def _conv(op: Conv, formats: list[Format], shapes: list[Shape], where: str) -> None:
    _conv_weights(op, shapes[0], where)
    x = formats[0]
    m = conv_multiplier(x.scale, op.weight_scale, None if op.out is None else op.out.scale)
    require_multipliers(m, where)
    bound = accumulator_bound(op, max(x.zero - x.lo, x.hi - x.zero))
    advice = "use fewer bits or a coarser weight scale"
    require(bool((bound < 1 << 31).all()), f"{where}: an accumulator could leave int32; {advice}")
    if op.out is None:
        require(len(op.inputs) == 1, f"{where}: logits with a residual")
        return
    ordered = (op.lo <= op.hi) & (op.lo >= op.out.lo) & (op.hi <= op.out.hi)
    require(bool(ordered.all()), f"{where}: a clamp is outside the format, or empty")
    if len(op.inputs) > 1:
        out = op.output_shape(shapes)
        require(shapes[1] == out, f"{where}: residual {shapes[1]} on an output {out}")
        require_multipliers([ratio(formats[1].scale, op.out.scale)], where)


def _conv_weights(op: Conv, x: Shape, where: str) -> None:
    """Types, shapes and geometry of a convolution on an input (C, H, W)."""
    array = isinstance(op.weight, np.ndarray) and op.weight.dtype == np.int8 and op.weight.ndim == 4
    require(array, f"{where}: weight is not int8 (O, I, kh, kw)")
    outs, per_group, kh, kw = op.weight.shape
    some = is_whole(op.groups) and op.groups >= 1 and outs >= 1
    require(some, f"{where}: {op.groups} groups, {outs} outputs")
    fits = outs % op.groups == 0 and per_group * op.groups == x[0]
    grouped = f"weight {op.weight.shape} with {op.groups} groups"
    require(fits, f"{where}: {grouped} does not fit {x[0]} channels")
    for name, dtype in _VECTORS.items():
        require_array(getattr(op, name), dtype, (outs,), f"{where}: {name}")
    require_window((kh, kw), op.stride, op.pads, op.dilation, where)
    few = is_whole(op.weight_bits) and 2 <= op.weight_bits <= 8
    require(few, f"{where}: {op.weight_bits} weight bits")
    zeros = np.abs(op.weight_zero.astype(np.int32))
    require(bool((zeros <= 255).all()), f"{where}: a weight zero point outside -255..255")


def _add(op: Add, formats: list[Format], shapes: list[Shape], where: str) -> None:
    f = known(op.out)
    right = is_whole(op.lo) and is_whole(op.hi) and f.lo <= op.lo <= op.hi <= f.hi
    require(right, f"{where}: clamp {op.lo}..{op.hi} is outside the format")
    require(shapes[0] == shapes[1], f"{where}: adds shapes {shapes[0]} and {shapes[1]}")
    require_multipliers([ratio(x.scale, f.scale) for x in formats], where)


def _mul(op: Mul, formats: list[Format], shapes: list[Shape], where: str) -> None:
    fits = all(n == m or 1 in (n, m) for n, m in zip(*shapes, strict=True))
    require(fits, f"{where}: multiplies shapes {shapes[0]} and {shapes[1]}")
    a, b = formats
    require_multipliers(product_ratio(a.scale, b.scale, known(op.out).scale), where)


def _concat(op: Concat, formats: list[Format], shapes: list[Shape], where: str) -> None:
    require(len({s[1:] for s in shapes}) == 1, f"{where}: concatenates shapes {shapes}")
    require_multipliers([ratio(x.scale, known(op.out).scale) for x in formats], where)


def _pool(op: Pool, _: list[Format], __: list[Shape], where: str) -> None:
    require_window(op.kernel, op.stride, op.pads, (1, 1), where)
    for pad, kernel in zip(op.pads, (*op.kernel, *op.kernel), strict=True):
        require(pad < kernel, f"{where}: a window could lie in the padding alone")


def _avg_pool(op: AvgPool, formats: list[Format], shapes: list[Shape], where: str) -> None:
    _pool(op, formats, shapes, where)
    area = math.prod(op.kernel)
    require(isinstance(op.count_padding, bool), f"{where}: count_padding {op.count_padding!r}")
    require(area * 255 < 1 << 31, f"{where}: window {op.kernel} could overflow int32")
    ends = (1, area)  # of what a window counts
    m = [ratio(formats[0].scale, known(op.out).scale, count) for count in ends]
    require_multipliers(m, where)


def _lrn(op: LRN, _: list[Format], __: list[Shape], where: str) -> None:
    numbers = is_whole(op.size) and isinstance(op.alpha, float) and isinstance(op.k, float)
    sane = numbers and 1 <= op.size <= 255 and 0 <= op.alpha <= HUGE and TINY <= op.k <= HUGE
    require(sane, f"{where}: size {op.size!r}, alpha {op.alpha!r}, k {op.k!r}")


def _lut(op: Lut, _: list[Format], __: list[Shape], where: str) -> None:
    require_array(op.table, np.uint8, (256,), f"{where}: table")
    f = known(op.out)
    inside = (op.table >= f.lo) & (op.table <= f.hi)
    require(bool(inside.all()), f"{where}: the table leaves the format")


def _pad(op: Pad, _: list[Format], __: list[Shape], where: str) -> None:
    require_whole(op.pads, 6, 0, f"{where}: pads")
    require_whole(op.stride, 2, 1, f"{where}: stride")


def _select(op: Select, _: list[Format], shapes: list[Shape], where: str) -> None:
    some = isinstance(op.channels, tuple) and 1 <= len(op.channels) <= LARGEST
    inside = some and all(is_whole(c) and 0 <= c < shapes[0][0] for c in op.channels)
    require(inside, f"{where}: channels {op.channels!r} of {shapes[0][0]}")


def _rearrange(op: Rearrange, _: list[Format], shapes: list[Shape], where: str) -> None:
    n = len(op.split) if isinstance(op.split, tuple) else 0
    require(1 <= n <= DIRECTIONS, f"{where}: {n} directions, of 1 to {DIRECTIONS}")
    require_whole(op.split, max(n, 1), 1, f"{where}: split")
    require_whole(op.into, 3, 1, f"{where}: into")
    require_whole(op.axes, n, 0, f"{where}: axes")
    require(sorted(op.axes) == list(range(n)), f"{where}: axes {op.axes} of {n}")
    sizes = {math.prod(s) for s in (shapes[0], op.split, op.into)}
    require(len(sizes) == 1, f"{where}: {shapes[0]} seen as {op.split} and as {op.into}")


def _resize(op: Resize, formats: list[Format], shapes: list[Shape], where: str) -> None:
    require_whole(op.size, 2, 1, f"{where}: size")
    require(isinstance(op.align_corners, bool), f"{where}: align_corners {op.align_corners!r}")
    x, parts = formats[0], 1
    for n, m in zip(shapes[0][1:], op.size, strict=True):
        parts *= taps(n, m, align_corners=op.align_corners).whole
    largest = max(x.zero - x.lo, x.hi - x.zero)
    fractions = f"from {shapes[0][1:]} to {op.size} takes fractions of {parts} parts"
    require(parts * largest < 1 << 31, f"{where}: {fractions}, whose sums could leave int32")
    require_multipliers([ratio(x.scale, 1.0 if op.out is None else op.out.scale, parts)], where)


def _flatten(_: Flatten, __: list[Format], ___: list[Shape], ____: str) -> None:
    """Nothing beyond what holds for every operator that keeps its format."""


def _dequantize(op: Dequantize, _: list[Format], __: list[Shape], where: str) -> None:
    require(op.out is None, f"{where}: gives floats, so it has no format")


def _island(op: Island, _: list[Format], __: list[Shape], where: str) -> None:
    require(callable(op.function), f"{where}: has no function")


RULES: dict[type[Op], Callable[[Any, list[Format], list[Shape], str], None]] = {
    Conv: _conv,
    Add: _add,
    Mul: _mul,
    Concat: _concat,
    MaxPool: _pool,
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
