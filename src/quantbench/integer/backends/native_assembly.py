"""From a checked program to a native network, operator by operator.

Multipliers are computed here, as the definition computes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from quantbench.errors import BadInput
from quantbench.integer.backends.base import Array
from quantbench.integer.dispatch import entry
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
    Program,
    Rearrange,
    Resize,
    Select,
    Shape,
)
from quantbench.integer.oracle import apply
from quantbench.integer.scales import conv_multiplier, product_ratio, ratio, taps


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
            kind, arguments = entry(_KERNELS, op, "native")
            known = [f for f in (formats[i] for i in op.inputs) if f is not None]
            said = arguments(op, _Inputs(known, [shapes[i] for i in op.inputs]))
            numbers[op.output] = builder.add(kind, [numbers[i] for i in op.inputs], **said)
        return builder.finish(options.threads, options.images, keep, options.worth), numbers
    except (ValueError, TypeError) as e:
        raise BadInput(f"native: {e}") from e


def _conv(op: Conv, x: _Inputs) -> dict[str, Any]:
    """Without an output format the layer gives float32 logits: it then has no bounds."""
    y = op.out
    bounds: dict[str, Any] = {"zero": 0}
    if y is not None:
        bounds = {
            "lo": np.ascontiguousarray(op.lo),
            "hi": np.ascontiguousarray(op.hi),
            "zero": y.zero,
        }
    residual = y is not None and len(op.inputs) > 1
    return {
        "weight": np.ascontiguousarray(op.weight),
        "weight_zero": np.ascontiguousarray(op.weight_zero),
        "bias": np.ascontiguousarray(op.bias),
        "m": conv_multiplier(x.formats[0].scale, op.weight_scale, None if y is None else y.scale),
        "ratio": _ratios(op, x)[1] if residual else 1.0,
        "stride": op.stride,
        "pads": op.pads,
        "dilation": op.dilation,
        "groups": op.groups,
        **bounds,
    }


def _add(op: Add, x: _Inputs) -> dict[str, Any]:
    a, b = _ratios(op, x)
    return {"a_ratio": a, "b_ratio": b, "zero": _format(op).zero, "lo": op.lo, "hi": op.hi}


def _mul(op: Mul, x: _Inputs) -> dict[str, Any]:
    a, b = (f.scale for f in x.formats)
    return {"ratio": float(product_ratio(a, b, _format(op).scale)), **_codes(op)}


def _concat(op: Concat, x: _Inputs) -> dict[str, Any]:
    return {"ratios": _ratios(op, x), **_codes(op)}


def _lrn(op: LRN, x: _Inputs) -> dict[str, Any]:
    s = np.float64(x.formats[0].scale)
    return {
        "size": op.size,
        "alpha": float(op.alpha / op.size * (s * s)),
        "k": op.k,
        "ratio": float(s / np.float64(_format(op).scale)),
        **_codes(op),
    }


def _window(op: MaxPool | AvgPool) -> dict[str, Any]:
    return {"kernel": op.kernel, "stride": op.stride, "pads": op.pads}


def _avg_pool(op: AvgPool, x: _Inputs) -> dict[str, Any]:
    return {"multipliers": _means(op, x), **_window(op), **_codes(op)}


def _means(op: AvgPool, x: _Inputs) -> Array:
    """Multiplier float32 (OH, OW) of each window, by the number of codes that count.

    That is the window's area, or what of it lies inside the image.
    """
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


def _resize(op: Resize, x: _Inputs) -> dict[str, Any]:
    """Without an output format it gives float32, and has no bounds."""
    rows, columns = (
        taps(n, m, align_corners=op.align_corners)
        for n, m in zip(x.shapes[0][1:], op.size, strict=True)
    )
    said = {
        f"{name}_{part}": getattr(t, part).astype(np.int32)
        for name, t in (("row", rows), ("column", columns))
        for part in ("lower", "upper", "weight")
    }
    s_y = 1.0 if op.out is None else op.out.scale
    said["ratio"] = float(ratio(x.formats[0].scale, s_y, rows.whole * columns.whole))
    said |= {"wholes": (rows.whole, columns.whole)}
    return said | (_codes(op) if op.out is not None else {})


def _rearrange(op: Rearrange, _: _Inputs) -> dict[str, Any]:
    split, axes = np.array(op.split, np.int32), np.array(op.axes, np.int32)
    return {"split": split, "axes": axes, "into": op.into}


def _foreign(op: Island, x: _Inputs) -> dict[str, Any]:
    """What the definition itself computes, in floats."""

    def function(*codes: Array) -> Array:
        return apply(op, list(codes), x.formats)

    return {"shape": op.shape, "zero": _format(op).zero, "function": function}


def _format(op: Op) -> Format:
    assert op.out is not None
    return op.out


def _codes(op: Op) -> dict[str, int]:
    f = _format(op)
    return {"zero": f.zero, "lo": f.lo, "hi": f.hi}


def _ratios(op: Op, x: _Inputs) -> list[float]:
    return [float(ratio(f.scale, _format(op).scale)) for f in x.formats]


# The kernel of each operator, and what it is told, by the names that csrc/operators reads.
_KERNELS: dict[type[Op], tuple[str, Callable[[Any, _Inputs], dict[str, Any]]]] = {
    Conv: ("conv", _conv),
    Add: ("add", _add),
    Mul: ("mul", _mul),
    Concat: ("concat", _concat),
    MaxPool: ("max_pool", lambda op, _: _window(op)),
    AvgPool: ("avg_pool", _avg_pool),
    LRN: ("lrn", _lrn),
    Lut: ("lut", lambda op, _: {"table": np.ascontiguousarray(op.table), "zero": _format(op).zero}),
    Pad: ("pad", lambda op, _: {"pads": op.pads, "stride": op.stride}),
    Resize: ("resize", _resize),
    Select: ("select", lambda op, _: {"channels": np.array(op.channels, np.int32)}),
    Flatten: ("flatten", lambda *_: {}),
    Dequantize: ("dequantize", lambda _, x: {"scale": x.formats[0].scale}),
    Rearrange: ("rearrange", _rearrange),
    Island: ("foreign", _foreign),
}
