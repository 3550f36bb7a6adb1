"""What a program must satisfy before any executor sees it.

The kernels rely on every line of this: they index memory and sum in int32 without a check of their
own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from quantbench.errors import BadInput
from quantbench.integer.ir import Format, Op, Program, Shape
from quantbench.integer.requirements import HUGE, LARGEST, TINY, is_whole, require
from quantbench.integer.rules import require_operator

LARGEST_TENSOR = 1 << 31  # elements of one image's tensor

_Tensor = tuple[Format | None, Shape]


def validate(program: Program) -> None:
    """Prove that a program is well formed.

    Raises:
        BadInput: naming the operator, if a shape, dtype, range, offset or name is wrong, a tensor
            is used before it is made, or an accumulator could leave int32.

    """
    if not isinstance(program, Program):
        raise BadInput(
            f"a program is needed, not {type(program).__name__}: give qb.lower(quantized)"
        )
    _format(program.input, "the network input")
    _shape(program.shape, "the network input")
    require(len(program.ops) > 0, "the program has no operators")
    made: dict[str, _Tensor] = {"input": (program.input, program.shape)}
    for op in program.ops:
        made[op.output] = _validate(op, made)


def _validate(op: Op, made: dict[str, _Tensor]) -> _Tensor:
    """Format and shape of what an operator makes of the tensors made before it."""
    where = f"{type(op).__name__} {op.name!r}"
    words = (op.name, op.output, *op.inputs) if isinstance(op.inputs, tuple) else (None,)
    require(all(isinstance(n, str) for n in words), f"{where}: names are not strings")
    formats = []
    for name in op.inputs:
        require(name in made, f"{where}: input {name!r} is not made by an earlier operator")
        f = made[name][0]
        if f is None:
            raise BadInput(f"{where}: input {name!r} holds floats, not codes")
        formats.append(f)
    require(op.output not in made, f"{where}: {op.output!r} is made twice")
    if op.out is not None:
        _format(op.out, where)
    shapes = [made[i][1] for i in op.inputs]
    require_operator(op, formats, shapes, where)
    shape = op.output_shape(shapes)
    _shape(shape, where)
    return op.out, shape


def validate_images(images: np.ndarray[Any, Any], program: Program) -> None:
    """Refuse what is not a batch of a program's input.

    Raises:
        BadInput: another shape or dtype, NaN, or uint8 codes outside the input's range.

    """
    shaped = images.ndim == 4 and images.shape[1:] == program.shape
    if not shaped or images.dtype not in (np.float32, np.uint8):
        wanted = f"(N, {', '.join(map(str, program.shape))})"
        given = f"{images.dtype} {images.shape}"
        raise BadInput(f"the network takes float32 or uint8 {wanted}, not {given}")
    if not images.size:
        return
    low, high, f = images.min(), images.max(), program.input
    if images.dtype == np.uint8 and not f.lo <= low <= high <= f.hi:
        raise BadInput(f"input codes {low}..{high} are outside the format's {f.lo}..{f.hi}")
    require(not np.isnan(low), "the images hold NaN")


def _format(f: Format, where: str) -> None:
    whole = all(is_whole(v) for v in (f.zero, f.lo, f.hi))
    inside = whole and 0 <= f.lo <= f.zero <= f.hi <= 255 and f.lo < f.hi
    codes = f"codes {f.lo}..{f.hi} with zero point {f.zero}"
    require(inside, f"{where}: {codes} are not inside 0..255, or without the zero")
    normal = math.isfinite(f.scale) and TINY <= f.scale <= HUGE
    require(normal, f"{where}: scale {f.scale!r} does not lie in {TINY:.2g}..{HUGE:.2g}")


def _shape(shape: Shape, where: str) -> None:
    three = isinstance(shape, tuple) and len(shape) == 3
    right = three and all(is_whole(v) and 1 <= v <= LARGEST for v in shape)
    require(right, f"{where}: shape {shape} is not three positive sizes of at most {LARGEST}")
    elements = math.prod(shape)
    require(elements < LARGEST_TENSOR, f"{where}: shape {shape} has {elements} elements")
