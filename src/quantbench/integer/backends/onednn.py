"""The integer operators that ship inside torch: ``torch.ops.onednn.*``, 8 bits, one call a layer.

Convolutions, linear layers and residual adds run in oneDNN; everything else in the exact
simulation's torch code. Two things differ from how torch itself uses these operators. A zero point
of the input would make oneDNN recompute its compensation on every call, so it is folded into the
bias and the padding is written out. And oneDNN rounds the scaled sum plus a float bias once, where
the definition has an int32 bias and rounds after each operation: a code next to a tie can differ by
one. How often is measured by ``backends.base.differences``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.backends.base import Array, Backend, Compiled
from quantbench.integer.dispatch import entry
from quantbench.integer.exact import ExactConv, over, quantize
from quantbench.integer.ir import Conv, Flatten, Format, MaxPool, Op, Program, Rearrange
from quantbench.integer.scales import known
from quantbench.integer.simulate import APPLY
from quantbench.integer.validate import validate, validate_images

Step = Callable[[list[Tensor]], Tensor]

_ops: Any = torch.ops.onednn


class OneDNN(Backend):
    """oneDNN's int8 kernels, without leaving torch."""

    name = "onednn"

    def available(self) -> str | None:
        """Torch must have been built with oneDNN for this processor."""
        built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if not built or not hasattr(_ops, "qconv2d_pointwise"):
            return "this torch was built without oneDNN's integer operators"
        return None

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Prepack every layer."""
        return _OneDNN(program, threads)


class _OneDNN(Compiled):
    def __init__(self, program: Program, threads: int) -> None:
        validate(program)
        self.program, self.threads = program, threads
        formats = program.formats
        last_use = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
        self.steps: list[tuple[Op, Step, list[str]]] = []
        for i, op in enumerate(program.ops):
            inputs = [known(formats[name]) for name in op.inputs]
            free = [name for name in dict.fromkeys(op.inputs) if last_use[name] == i]
            self.steps.append((op, _step(op, inputs, free), free))

    def __call__(self, images: Array) -> Array:
        with torch.inference_mode(), torch_threads(self.threads):
            tensors = {"input": self._input(images)}
            for op, step, free in self.steps:
                tensors[op.output] = step([tensors[name] for name in op.inputs])
                for name in free:
                    del tensors[name]
            logits: Array = tensors[self.program.output].flatten(1).numpy()
        return logits

    def codes(self, images: Array) -> dict[str, Array]:
        with torch.inference_mode(), torch_threads(self.threads):
            tensors = {"input": self._input(images)}
            for op, step, _ in self.steps:
                # sums are made in place
                tensors[op.output] = step([tensors[name].clone() for name in op.inputs])
        return {k: v.numpy() for k, v in tensors.items() if v.dtype == torch.uint8}

    def _input(self, images: Array) -> Tensor:
        validate_images(images, self.program)
        x = torch.from_numpy(images)
        if x.dtype != torch.uint8:
            x = quantize(over(x, self.program.input.scale), self.program.input)
        return x.contiguous(memory_format=torch.channels_last)


def _step(op: Op, formats: list[Format], free: list[str]) -> Step:
    """One operator as a function of its inputs.

    Args:
        op: the operator.
        formats: of its inputs.
        free: those of its inputs that nothing reads behind it.

    """
    if type(op) in STEPS:
        return STEPS[type(op)](op, formats, free)
    exact = entry(APPLY, op, "onednn")
    return lambda inputs: exact(op, inputs, formats)


def _conv(op: Conv, formats: list[Format], free: list[str]) -> Step:
    v = op.weight.astype(np.int64) - op.weight_zero[:, None, None, None]
    if v.min() < np.iinfo(np.int8).min or v.max() > np.iinfo(np.int8).max:
        # 8 bits with a zero point need 9
        return ExactConv.of(op, list(formats), torch.device("cpu")).run
    return _packed(op, torch.from_numpy(v.astype(np.int8)), formats, free)


def _flatten(_: Flatten, __: list[Format], ___: list[str]) -> Step:
    """No view, for sums are made in place."""
    return lambda inputs: inputs[0].contiguous().flatten(1)[:, :, None, None].clone()


def _max_pool(op: MaxPool, formats: list[Format], _: list[str]) -> Step:
    """Torch's own on codes, if the padding is alike on both sides and at most half a window."""
    halves = all(2 * p <= k for p, k in zip(op.pads[:2], op.kernel, strict=True))
    if op.pads[:2] != op.pads[2:] or not halves:
        return lambda inputs: APPLY[MaxPool](op, inputs, formats)
    geometry = (list(op.kernel), list(op.stride), list(op.pads[:2]), [1, 1])
    return lambda inputs: torch.ops.quantized.max_pool2d(inputs[0], *geometry, False)


# what torch ships; every other operator is the simulation's
def _rearrange(op: Rearrange, formats: list[Format], _: list[str]) -> Step:
    """No view here either."""
    return lambda inputs: APPLY[Rearrange](op, inputs, formats).clone()


STEPS: dict[type[Op], Callable[[Any, list[Format], list[str]], Step]] = {
    Conv: _conv,
    Flatten: _flatten,
    MaxPool: _max_pool,
    Rearrange: _rearrange,
}


def _packed(op: Conv, v: Tensor, formats: list[Format], free: list[str]) -> Step:
    """A convolution as one oneDNN call, with at most a padding before and a clamp behind.

    The call adds the residual too.
    """
    x, y = formats[0], op.out
    top, left, bottom, right = op.pads
    # padding as a tensor of its own
    written = any(op.pads) and (x.zero != 0 or op.pads[:2] != op.pads[2:])
    geometry = (list(op.stride), [0, 0] if written else [top, left], list(op.dilation), op.groups)
    scales, zeros = torch.from_numpy(op.weight_scale), torch.zeros(len(v), dtype=torch.int64)
    # sum (x - z) v = sum x v - z sum v: the second term does not depend on the input
    folded = torch.from_numpy(op.bias).long() - x.zero * v.long().sum((1, 2, 3))
    bias = (folded.double() * scales.double() * x.scale).float()
    packed = _ops.qconv_prepack(v, scales, x.scale, 0, *geometry, None)
    s_y, z_y, dtype = (1.0, 0, torch.float32) if y is None else (y.scale, y.zero, torch.uint8)
    result = (*geometry, s_y, z_y, dtype)
    bounds = _Bounds.of(op)
    residual = formats[-1]
    add: tuple[Any, ...] = (residual.scale, residual.zero, "sum", 1.0, "none", [], "")
    in_place = op.inputs[-1] in free and op.inputs[-1] not in ("input", op.inputs[0])

    def run(inputs: list[Tensor]) -> Tensor:
        codes = F.pad(inputs[0], (left, right, top, bottom), value=x.zero) if written else inputs[0]
        common = (codes, x.scale, 0, packed, scales, zeros)
        if len(inputs) == 1:
            out = _ops.qconv2d_pointwise(*common, bias, *result, *bounds.fused)
        else:
            layout = torch.channels_last
            copied = inputs[1].contiguous if in_place else inputs[1].clone
            total = copied(memory_format=layout)
            out = _ops.qconv2d_pointwise.binary(*common, total, bias, *result, *add)
        return bounds.clamp(out)

    return run


@dataclass(frozen=True, eq=False)
class _Bounds:
    """How a convolution's clamp is made.

    Attributes:
        fused: what oneDNN is told to do behind the sum: a clamp of real values, or nothing.
        lo: bounds that are left for a clamp of codes; None where there are none, numbers where all
            channels have the same, else arrays (C, 1, 1).
        hi: the upper ones.

    """

    fused: tuple[str, list[float], str] = ("none", [], "")
    lo: Any = None
    hi: Any = None

    @classmethod
    def of(cls, op: Conv) -> _Bounds:
        """Fuse the bounds where oneDNN can."""
        y, low, high = op.out, int(op.lo[0]), int(op.hi[0])
        uniform = bool((op.lo == low).all() and (op.hi == high).all())
        if y is None or (uniform and (low, high) == (0, 255)):
            return cls()
        if not uniform:
            lo, hi = (torch.from_numpy(a)[:, None, None] for a in (op.lo, op.hi))
            return cls(lo=lo, hi=hi)
        if len(op.inputs) > 1:
            return cls(lo=low, hi=high)
        ends = [(low - y.zero) * y.scale, (high - y.zero) * y.scale]
        return cls(fused=("hardtanh", ends, ""))

    def clamp(self, codes: Tensor) -> Tensor:
        """Codes inside the bounds that were not fused."""
        return codes if self.lo is None else codes.clamp_(self.lo, self.hi)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's number of threads inside the block."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
