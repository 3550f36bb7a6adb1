"""Our own kernels: AVX-512 VNNI, AVX2 or portable C++, chosen at run time, every one equal to the definition bit for bit.

The extension module is built when the package is installed. Where it could not be built this backend says so, and the
others remain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends import Array, Backend, Compiled
from quantbench.integer.check import check
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
from quantbench.integer.reference import apply

ISA = "QUANTBENCH_ISA"  # environment variable: portable, avx2 or avx512


class Native(Backend):
    """The kernels of this package.

    Args:
        isa: ``portable``, ``avx2`` or ``avx512``; by default what ``QUANTBENCH_ISA`` says, else the best of this machine.

    """

    name = "native"

    def __init__(self, isa: str | None = None) -> None:
        self.isa = os.environ.get(ISA, "") if isa is None else isa

    def available(self) -> str | None:
        """The extension must have been built, and the processor must have the instruction set that is asked for."""
        try:
            _module().isa(self.isa)
        except (Unsupported, BadInput) as e:
            return str(e)
        return None

    def compile(self, program: Program, *, threads: int = 1, keep: bool = False, images: int = 0) -> NativeProgram:
        """Pack weights and plan memory.

        Args:
            program: what to run.
            threads: threads to use.
            keep: keep every tensor, for ``codes``.
            images: how many pass through the network together; 0 for as many as the cache holds.

        Raises:
            BadInput: a malformed program, an instruction set that this machine lacks.
            Unsupported: the extension was not built.

        """
        return NativeProgram(program, self.isa, threads, keep=keep, images=images)


class NativeProgram(Compiled):
    """A program ready to run; not to be called by two threads at once (a second one waits)."""

    def __init__(self, program: Program, isa: str, threads: int, *, keep: bool, images: int) -> None:
        check(program)
        self.program, self._arguments = program, (isa, threads, images)
        self._net, self._numbers = _build(program, isa, threads, images, keep=keep)
        self._keeps = keep

    def __call__(self, images: Array) -> Array:
        """float32 logits (N, outputs), or codes where the program ends in codes, of float32 images or uint8 codes."""
        y: Array = _checked(self._net, images)
        return y.reshape(len(y), -1)

    def codes(self, images: Array) -> Mapping[str, Array]:
        """uint8 codes (N, C, H, W) of every tensor by name, the network input included."""
        isa, threads, limit = self._arguments
        net, numbers = (self._net, self._numbers) if self._keeps else _build(self.program, isa, threads, limit, keep=True)
        parts: dict[str, list[Array]] = {name: [] for name in numbers}
        for start in range(0, len(images), net.image_limit):
            batch = images[start : start + net.image_limit]
            _checked(net, batch)
            for name, number in numbers.items():
                parts[name].append(net.read(number, len(batch)))
        return {name: np.concatenate(p) for name, p in parts.items() if p and p[0].dtype == np.uint8}

    def layers(self, images: Array, repeats: int = 10) -> list[tuple[str, str, float]]:
        """Module name, kernel and mean seconds of the network input and of every operator."""
        names = {n: op.name for op in self.program.ops for n in [self._numbers[op.output]]} | {0: "input"}
        return [(names[number], kind, s) for kind, number, s in self._net.profile(np.ascontiguousarray(images), repeats)]

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return str(self._net.isa)


def _module() -> ModuleType:
    try:
        return import_module("quantbench.integer._native")
    except ImportError as e:
        raise Unsupported(
            f"the native kernels are not built ({e}); install a C++17 compiler, then: pip install --force-reinstall quantbench"
        ) from e


def _checked(net: Any, images: Array) -> Array:
    try:
        y: Array = net(np.ascontiguousarray(images))
    except ValueError as e:
        raise BadInput(f"native: {e}") from e
    return y


def _build(program: Program, isa: str, threads: int, images: int, *, keep: bool) -> tuple[Any, dict[str, int]]:
    f = program.input
    try:
        builder = _module().Builder(program.shape, f.zero, f.lo, f.hi, f.scale, isa)
        numbers, formats, shapes = {"input": 0}, program.formats, program.shapes
        for op in program.ops:
            known = [formats[i] for i in op.inputs]
            numbers[op.output] = _add(builder, op, [numbers[i] for i in op.inputs], known, [shapes[i] for i in op.inputs])
        return builder.finish(threads, images, keep), numbers
    except (ValueError, TypeError) as e:
        raise BadInput(f"native: {e}") from e


def _add(b: Any, op: Op, x: list[int], formats: list[Any], shapes: list[Shape]) -> int:
    """Number of the output tensor of one operator, added to the builder."""
    f: Format = formats[0]
    if isinstance(op, Dequantize):
        return int(b.dequantize(x[0], f.scale))
    if isinstance(op, Conv):
        return _add_conv(b, op, x, formats)
    assert op.out is not None
    y = (op.out.zero, op.out.lo, op.out.hi)
    match op:
        case Add():
            ratios = [float(ratio(f.scale, op.out.scale)) for f in formats]
            return int(b.add(*x, *ratios, op.out.zero, op.lo, op.hi))
        case Concat():
            return int(b.concat(x, [float(ratio(f.scale, op.out.scale)) for f in formats], *y))
        case AvgPool():
            return int(b.avg_pool(x[0], op.kernel, op.stride, op.pads, _means(op, f, shapes[0]), *y))
        case MaxPool():
            return int(b.max_pool(x[0], op.kernel, op.stride, op.pads))
        case LRN():
            s = np.float64(f.scale)
            return int(b.lrn(x[0], op.size, float(op.alpha / op.size * (s * s)), op.k, float(s / np.float64(op.out.scale)), *y))
        case Lut():
            return int(b.lut(x[0], op.table, op.out.zero))
        case Pad():
            return int(b.pad(x[0], op.pads, op.stride))
        case Flatten():
            return int(b.flatten(x[0]))
        case Island():
            return int(b.foreign(x, op.shape, op.out.zero, lambda *codes: apply(op, list(codes), formats)))
    raise Unsupported(f"native: no kernel for {type(op).__name__} {op.name!r}")


def _add_conv(b: Any, op: Conv, x: list[int], formats: list[Format]) -> int:
    y = op.out
    residual = float(ratio(formats[1].scale, y.scale)) if y is not None and len(x) > 1 else 1.0
    weight, zero, bias = (np.ascontiguousarray(a) for a in (op.weight, op.weight_zero, op.bias))
    return int(
        b.conv(
            x[0], x[1] if len(x) > 1 else -1, weight, zero, bias,
            conv_multiplier(formats[0].scale, op.weight_scale, None if y is None else y.scale),
            None if y is None else np.ascontiguousarray(op.lo), None if y is None else np.ascontiguousarray(op.hi),
            0 if y is None else y.zero, residual, op.stride, op.pads, op.dilation, op.groups,
        )
    )  # fmt: skip


def _means(op: AvgPool, f: Format, shape: Shape) -> Array:
    """Multiplier (OH, OW) of each window: its count is its area, or what of it lies inside the image."""
    assert op.out is not None
    counts = []
    for size, outputs, kernel, stride, pad in zip(
        shape[1:], output_shape(op, [shape])[1:], op.kernel, op.stride, op.pads[:2], strict=True
    ):
        start = np.arange(outputs) * stride - pad
        inside = np.minimum(start + kernel, size) - np.maximum(start, 0)
        counts.append(np.full(outputs, kernel) if op.count_padding else inside)
    scale = op.out.scale
    if min(counts[0].min(), counts[1].min()) < 1:
        raise BadInput(f"AvgPool {op.name!r}: a window lies in the padding alone")
    return np.array([[ratio(f.scale, scale, int(a * b)) for b in counts[1]] for a in counts[0]], np.float32)
