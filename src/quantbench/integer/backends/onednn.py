"""The integer operators that ship inside torch: ``torch.ops.onednn.*``, 8 bits, one call a layer.

Convolutions, linear layers and residual adds run in oneDNN; everything else in the exact
simulation's torch code. Two things differ from how torch itself uses these operators. A zero point
of the input would make oneDNN recompute its compensation on every call, so it is folded into the
bias and the padding is written out. And oneDNN rounds the scaled sum plus a float bias once, where
the definition has an int32 bias and rounds after each operation: a code next to a tie can differ by
one. How often is measured by ``backends.differences``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.backends.base import Array, Backend, Compiled
from quantbench.integer.exact import ExactConv, known, over, quantize
from quantbench.integer.ir import AvgPool, Conv, Flatten, Format, MaxPool, Op, Program
from quantbench.integer.simulate import apply
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
    """One operator as a function of its inputs."""
    if isinstance(op, Conv):
        v = op.weight.astype(np.int64) - op.weight_zero[:, None, None, None]
        if v.min() < np.iinfo(np.int8).min or v.max() > np.iinfo(np.int8).max:
            # 8 bits with a zero point need 9
            return ExactConv.of(op, list(formats), torch.device("cpu")).run
        return _conv(op, torch.from_numpy(v.astype(np.int8)), formats, free)
    if isinstance(op, Flatten):
        return lambda inputs: (
            inputs[0].contiguous().reshape(len(inputs[0]), -1, 1, 1).clone()
        )  # no view: sums are made in place
    if isinstance(op, MaxPool) and not isinstance(op, AvgPool) and op.pads[:2] == op.pads[2:]:
        geometry = (list(op.kernel), list(op.stride), list(op.pads[:2]), [1, 1])
        if all(2 * p <= k for p, k in zip(op.pads, op.kernel, strict=False)):
            return lambda inputs: torch.ops.quantized.max_pool2d(inputs[0], *geometry, False)
    return lambda inputs: apply(op, inputs, formats)


def _conv(op: Conv, v: Tensor, formats: list[Format], free: list[str]) -> Step:
    """A convolution, with its residual add, as one oneDNN call and at most a padding before and a clamp behind."""
    x, y = formats[0], op.out
    top, left, bottom, right = op.pads
    # padding as a tensor of its own
    written = any(op.pads) and (x.zero != 0 or op.pads[:2] != op.pads[2:])
    geometry = (list(op.stride), [0, 0] if written else [top, left], list(op.dilation), op.groups)
    scales, zeros = torch.from_numpy(op.weight_scale), torch.zeros(len(v), dtype=torch.int64)
    folded = torch.from_numpy(op.bias).long() - x.zero * v.long().sum((1, 2, 3))
    bias = (folded.double() * scales.double() * x.scale).float()
    packed = _ops.qconv_prepack(v, scales, x.scale, 0, *geometry, None)
    s_y, z_y, dtype = (1.0, 0, torch.float32) if y is None else (y.scale, y.zero, torch.uint8)
    low, high = int(op.lo[0]), int(op.hi[0])
    uniform = bool((op.lo == low).all() and (op.hi == high).all())
    needed = y is not None and not (uniform and (low, high) == (0, 255))
    fused = needed and uniform and len(op.inputs) == 1
    post = ("hardtanh", [(low - z_y) * s_y, (high - z_y) * s_y], "") if fused else ("none", [], "")
    lo, hi = (torch.from_numpy(a)[:, None, None] for a in (op.lo, op.hi))
    residual = formats[-1]
    in_place = op.inputs[-1] in free and op.inputs[-1] not in ("input", op.inputs[0])

    def run(inputs: list[Tensor]) -> Tensor:
        codes = F.pad(inputs[0], (left, right, top, bottom), value=x.zero) if written else inputs[0]
        common = (codes, x.scale, 0, packed, scales, zeros)
        if len(inputs) == 1:
            out = _ops.qconv2d_pointwise(*common, bias, *geometry, s_y, z_y, dtype, *post)
        else:
            total = inputs[1] if in_place else inputs[1].clone(memory_format=torch.channels_last)
            out = _ops.qconv2d_pointwise.binary(
                *common,
                total,
                bias,
                *geometry,
                s_y,
                z_y,
                dtype,
                residual.scale,
                residual.zero,
                "sum",
                1.0,
                "none",
                [],
                "",
            )
        if needed and not fused:
            out = out.clamp_(low, high) if uniform else out.clamp_(lo, hi)
        result: Tensor = out
        return result

    return run


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
