"""What a program must satisfy before any executor sees it; the kernels rely on every line of this."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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
    Program,
    Shape,
    conv_multiplier,
    output_shape,
    ratio,
)

LARGEST = 1 << 16  # rows, columns and channels: products of three still fit in int64
LARGEST_TENSOR = 1 << 31  # elements of one image's tensor
TINY, HUGE = 2.0**-96, 2.0**64  # multipliers: f32(acc) * m is then normal and finite, whatever acc


def check(program: Program) -> None:
    """Prove that a program is well formed.

    Raises:
        BadInput: naming the operator, if a shape, dtype, range, offset or name is wrong, a tensor is used before it is
            made, or an accumulator could leave int32.

    """
    _format(program.input, "the network input")
    _shape(program.shape, "the network input")
    if not program.ops:
        raise BadInput("the program has no operators")
    known: dict[str, tuple[Format | None, Shape]] = {"input": (program.input, program.shape)}
    for op in program.ops:
        where = f"{type(op).__name__} {op.name!r}"
        names = (op.name, op.output, *op.inputs)
        _same(
            isinstance(op.inputs, tuple) and all(isinstance(n, str) for n in names), f"{where}: names are not strings"
        )
        for name in op.inputs:
            if name not in known:
                raise BadInput(f"{where}: input {name!r} is not made by an earlier operator")
            if known[name][0] is None:
                raise BadInput(f"{where}: input {name!r} holds floats, not codes")
        if op.output in known:
            raise BadInput(f"{where}: {op.output!r} is made twice")
        if op.out is not None:
            _format(op.out, where)
        formats = [f for f, _ in (known[i] for i in op.inputs) if f is not None]
        _operator(op, formats, [known[i][1] for i in op.inputs], where)
        shape = output_shape(op, [known[i][1] for i in op.inputs])
        _shape(shape, where)
        known[op.output] = (op.out, shape)


def check_images(images: np.ndarray[Any, Any], program: Program) -> None:
    """Refuse what is not a batch of a program's input.

    Raises:
        BadInput: another shape or dtype, NaN, or uint8 codes outside the input's range.

    """
    if images.ndim != 4 or images.shape[1:] != program.shape or images.dtype not in (np.float32, np.uint8):
        raise BadInput(f"the network takes float32 or uint8 (N, {', '.join(map(str, program.shape))}), "
                       f"not {images.dtype} {images.shape}")  # fmt: skip
    if not images.size:
        return
    low, high = images.min(), images.max()
    if images.dtype == np.uint8 and not program.input.lo <= low <= high <= program.input.hi:
        raise BadInput(f"input codes {low}..{high} are outside the format's {program.input.lo}..{program.input.hi}")
    if np.isnan(low):
        raise BadInput("the images hold NaN")


def _format(f: Format, where: str) -> None:
    whole = all(_is_int(v) for v in (f.zero, f.lo, f.hi))
    _same(whole and 0 <= f.lo <= f.zero <= f.hi <= 255 and f.lo < f.hi, f"{where}: codes {f.lo}..{f.hi} with zero point "
          f"{f.zero} are not inside 0..255, or without the zero")  # fmt: skip
    if not (math.isfinite(f.scale) and TINY <= f.scale <= HUGE):
        raise BadInput(f"{where}: scale {f.scale!r} is not a positive, normal number")


def _shape(shape: Shape, where: str) -> None:
    right = isinstance(shape, tuple) and len(shape) == 3 and all(_is_int(v) and 1 <= v <= LARGEST for v in shape)
    _same(right, f"{where}: shape {shape} is not three positive sizes of at most {LARGEST}")
    _same(math.prod(shape) < LARGEST_TENSOR, f"{where}: shape {shape} has {math.prod(shape)} elements")


def _operator(op: Op, formats: list[Format], shapes: list[Shape], where: str) -> None:
    least, most = {Conv: (1, 2), Add: (2, 2), Concat: (1, 1 << 16), Island: (1, 1 << 16)}.get(type(op), (1, 1))
    if not least <= len(op.inputs) <= most:
        raise BadInput(f"{where}: {len(op.inputs)} inputs")
    if op.out is None and not isinstance(op, Conv | Dequantize):
        raise BadInput(f"{where}: has no output format")
    match op:
        case Conv():
            _conv(op, formats, shapes, where)
        case Add():
            _clamp(op.lo, op.hi, op.out, where)
            _same(shapes[0] == shapes[1], f"{where}: adds shapes {shapes[0]} and {shapes[1]}")
            _multipliers([ratio(f.scale, _scale(op)) for f in formats], where)
        case Concat():
            _same(len({s[1:] for s in shapes}) == 1, f"{where}: concatenates shapes {shapes}")
            _multipliers([ratio(f.scale, _scale(op)) for f in formats], where)
        case AvgPool():
            _window(op.kernel, op.stride, op.pads, (1, 1), where)
            _same(isinstance(op.count_padding, bool), f"{where}: count_padding {op.count_padding!r}")
            area = math.prod(op.kernel)
            _same(area * 255 < 1 << 31, f"{where}: window {op.kernel} could overflow int32")
            _multipliers([ratio(formats[0].scale, _scale(op), area)], where)
        case MaxPool():
            _window(op.kernel, op.stride, op.pads, (1, 1), where)
            for pad, kernel in zip(op.pads, (*op.kernel, *op.kernel), strict=True):
                _same(pad < kernel, f"{where}: a window could lie in the padding alone")
            _same(op.out == formats[0], f"{where}: must keep its input's format")
        case Pad() | Flatten():
            pads, stride = (op.pads, op.stride) if isinstance(op, Pad) else ((0,) * 6, (1, 1))
            _same(_length(pads) == 6 and all(_is_int(p) and 0 <= p <= LARGEST for p in pads), f"{where}: pads {pads}")
            _same(_length(stride) == 2 and all(_is_int(s) and 1 <= s <= LARGEST for s in stride), f"{where}: {stride}")
            _same(op.out == formats[0], f"{where}: must keep its input's format")
        case LRN():
            numbers = _is_int(op.size) and isinstance(op.alpha, float) and isinstance(op.k, float)
            sane = numbers and 1 <= op.size <= 255 and 0 <= op.alpha <= HUGE and TINY <= op.k <= HUGE
            _same(sane, f"{where}: size {op.size!r}, alpha {op.alpha!r}, k {op.k!r}")
        case Lut():
            _array(op.table, np.uint8, (256,), f"{where}: table")
            _clamp(int(op.table.min()), int(op.table.max()), op.out, where)
        case Dequantize():
            _same(op.out is None, f"{where}: gives floats, so it has no format")
        case Island():
            pass
        case _:
            raise BadInput(f"{where}: unknown operator")


def _conv(op: Conv, formats: list[Format], shapes: list[Shape], where: str) -> None:
    array = isinstance(op.weight, np.ndarray) and op.weight.dtype == np.int8 and op.weight.ndim == 4
    _same(array, f"{where}: weight is not int8 (O, I, kh, kw)")
    o, per_group, kh, kw = op.weight.shape
    _same(_is_int(op.groups) and op.groups >= 1 and o >= 1, f"{where}: {op.groups} groups, {o} outputs")
    _same(o % op.groups == 0 and per_group * op.groups == shapes[0][0], f"{where}: weight {op.weight.shape} "
          f"with {op.groups} groups does not fit {shapes[0][0]} channels")  # fmt: skip
    for name, dtype in (("weight_zero", np.int16), ("weight_scale", np.float32), ("bias", np.int32),
                        ("lo", np.uint8), ("hi", np.uint8)):  # fmt: skip
        _array(getattr(op, name), dtype, (o,), f"{where}: {name}")
    _window((kh, kw), op.stride, op.pads, op.dilation, where)
    _same(_is_int(op.weight_bits) and 2 <= op.weight_bits <= 8, f"{where}: {op.weight_bits} weight bits")
    _same(bool((abs(op.weight_zero.astype(np.int32)) <= 255).all()), f"{where}: a weight zero point outside -255..255")
    s_y = None if op.out is None else op.out.scale
    _multipliers(conv_multiplier(formats[0].scale, op.weight_scale, s_y), where)
    largest = max(formats[0].zero - formats[0].lo, formats[0].hi - formats[0].zero)
    if bool((accumulator_bound(op, largest) >= 1 << 31).any()):
        raise BadInput(f"{where}: an accumulator could leave int32; use fewer bits or a coarser weight scale")
    if op.out is None:
        _same(len(op.inputs) == 1, f"{where}: logits with a residual")
        return
    for lo, hi in zip(op.lo.tolist(), op.hi.tolist(), strict=True):
        _clamp(lo, hi, op.out, where)
    if len(op.inputs) == 2:
        out = output_shape(op, shapes)
        _same(shapes[1] == out, f"{where}: residual {shapes[1]} on an output {out}")
        _multipliers([ratio(formats[1].scale, op.out.scale)], where)


def accumulator_bound(op: Conv, largest: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Largest |acc| (O,) that inputs with |x - zero| <= ``largest`` can reach."""
    v = op.weight.astype(np.int64) - op.weight_zero.astype(np.int64)[:, None, None, None]
    return np.abs(v).sum((1, 2, 3)) * largest + np.abs(op.bias.astype(np.int64))


def _window(
    kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, ...], dilation: tuple[int, int], where: str
) -> None:
    lengths = [len(v) if isinstance(v, tuple) else 0 for v in (kernel, stride, dilation, pads)]
    right = lengths == [2, 2, 2, 4] and all(_is_int(v) and 1 <= v <= LARGEST for v in (*kernel, *stride, *dilation))
    _same(right and all(_is_int(p) and 0 <= p <= LARGEST for p in pads), f"{where}: kernel {kernel}, stride {stride}, "
          f"pads {pads}, dilation {dilation}")  # fmt: skip


def _clamp(lo: int, hi: int, out: Format | None, where: str) -> None:
    whole = _is_int(lo) and _is_int(hi)
    _same(
        whole and out is not None and out.lo <= lo <= hi <= out.hi, f"{where}: clamp {lo}..{hi} is outside the format"
    )


def _multipliers(values: Any, where: str) -> None:
    m = np.asarray(values, dtype=np.float64)
    _same(bool((np.isfinite(m) & (m >= TINY) & (m <= HUGE)).all()), f"{where}: a ratio of scales is not in 2^-96..2^64")


def _array(value: Any, dtype: Any, shape: tuple[int, ...], where: str) -> None:
    _same(isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape,
          f"{where} is not {np.dtype(dtype).name} {shape}")  # fmt: skip


def _scale(op: Op) -> float:
    assert op.out is not None
    return op.out.scale


def _length(value: Any) -> int:
    return len(value) if isinstance(value, tuple) else -1


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _same(holds: bool, message: str) -> None:
    if not holds:
        raise BadInput(message)
