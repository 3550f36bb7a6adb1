"""From a checked program to a native network: multipliers as the definition computes them, operators one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.base import Array
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
)
from quantbench.integer.oracle import apply
from quantbench.integer.scales import conv_multiplier, ratio


@dataclass(frozen=True)
class Options:
    """How a network is built: see ``native.Native``."""

    isa: str
    winograd: bool | None
    threads: int
    images: int
    worth: float | None = None


@dataclass(frozen=True)
class _Inputs:
    numbers: list[int]  # of the builder's tensors
    formats: list[Format]
    shapes: list[Shape]


def assemble(
    module: ModuleType, program: Program, options: Options, *, keep: bool
) -> tuple[Any, dict[str, int]]:
    """A native network, and the numbers of its tensors.

    Raises:
        BadInput: what the extension refuses.
        Unsupported: an operator that it does not have.

    """
    f = program.input
    try:
        builder = module.Builder(
            program.shape, f.zero, f.lo, f.hi, f.scale, options.isa, options.winograd
        )
        numbers, formats, shapes = {"input": 0}, program.formats, program.shapes
        for op in program.ops:
            if type(op) not in _KERNELS:
                raise Unsupported(f"native: no kernel for {type(op).__name__} {op.name!r}")
            known = [f for f in (formats[i] for i in op.inputs) if f is not None]
            inputs = _Inputs([numbers[i] for i in op.inputs], known, [shapes[i] for i in op.inputs])
            numbers[op.output] = _KERNELS[type(op)](builder, op, inputs)
        return builder.finish(options.threads, options.images, keep, options.worth), numbers
    except (ValueError, TypeError) as e:
        raise BadInput(f"native: {e}") from e


def _conv(b: Any, op: Conv, x: _Inputs) -> Any:
    y, codes = op.out, {}
    if y is not None:
        codes = {
            "lo": np.ascontiguousarray(op.lo),
            "hi": np.ascontiguousarray(op.hi),
            "zero": y.zero,
        }
    residual = y is not None and len(x.numbers) > 1
    return b.conv(
        x=x.numbers[0],
        r=x.numbers[1] if residual else -1,
        weight=np.ascontiguousarray(op.weight),
        weight_zero=np.ascontiguousarray(op.weight_zero),
        bias=np.ascontiguousarray(op.bias),
        m=conv_multiplier(x.formats[0].scale, op.weight_scale, None if y is None else y.scale),
        ratio=_ratios(op, x)[1] if residual else 1.0,
        stride=op.stride,
        pads=op.pads,
        dilation=op.dilation,
        groups=op.groups,
        **({"lo": None, "hi": None, "zero": 0} | codes),
    )


def _lrn(b: Any, op: LRN, x: _Inputs) -> Any:
    s = np.float64(x.formats[0].scale)
    alpha = float(op.alpha / op.size * (s * s))
    return b.lrn(
        x.numbers[0], op.size, alpha, op.k, float(s / np.float64(_format(op).scale)), *_codes(op)
    )


def _avg_pool(b: Any, op: AvgPool, x: _Inputs) -> Any:
    return b.avg_pool(x.numbers[0], op.kernel, op.stride, op.pads, _means(op, x), *_codes(op))


def _means(op: AvgPool, x: _Inputs) -> Array:
    """Multiplier (OH, OW) of each window: its count is its area, or what of it lies inside the image."""
    shape, counts = x.shapes[0], []
    sizes = zip(
        shape[1:], op.output_shape([shape])[1:], op.kernel, op.stride, op.pads[:2], strict=True
    )
    for size, outputs, kernel, stride, pad in sizes:
        start = np.arange(outputs) * stride - pad
        inside = np.minimum(start + kernel, size) - np.maximum(start, 0)
        counts.append(np.full(outputs, kernel) if op.count_padding else inside)
    if min(counts[0].min(), counts[1].min()) < 1:
        raise BadInput(f"AvgPool {op.name!r}: a window lies in the padding alone")
    rows, columns = counts
    m = {
        n: ratio(x.formats[0].scale, _format(op).scale, n)
        for n in {int(a * b) for a in rows for b in columns}
    }
    return np.array([[m[int(a * b)] for b in columns] for a in rows], np.float32)


def _island(b: Any, op: Island, x: _Inputs) -> Any:
    return b.foreign(
        x.numbers, op.shape, _format(op).zero, lambda *codes: apply(op, list(codes), x.formats)
    )


def _format(op: Op) -> Format:
    assert op.out is not None
    return op.out


def _codes(op: Op) -> tuple[int, int, int]:
    f = _format(op)
    return f.zero, f.lo, f.hi


def _ratios(op: Op, x: _Inputs) -> list[float]:
    return [float(ratio(f.scale, _format(op).scale)) for f in x.formats]


_KERNELS: dict[type[Op], Callable[[Any, Any, _Inputs], Any]] = {
    Conv: _conv,
    Add: lambda b, op, x: b.add(*x.numbers, *_ratios(op, x), _format(op).zero, op.lo, op.hi),
    Concat: lambda b, op, x: b.concat(x.numbers, _ratios(op, x), *_codes(op)),
    MaxPool: lambda b, op, x: b.max_pool(x.numbers[0], op.kernel, op.stride, op.pads),
    AvgPool: _avg_pool,
    LRN: _lrn,
    Lut: lambda b, op, x: b.lut(x.numbers[0], np.ascontiguousarray(op.table), _format(op).zero),
    Pad: lambda b, op, x: b.pad(x.numbers[0], op.pads, op.stride),
    Flatten: lambda b, _, x: b.flatten(x.numbers[0]),
    Dequantize: lambda b, _, x: b.dequantize(x.numbers[0], x.formats[0].scale),
    Island: _island,
}
