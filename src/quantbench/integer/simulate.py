"""Exact simulation in torch: every code equals the reference executor's, at the speed of float convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.exact import EXACT, ExactConv, known, over, quantize, scaled
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
    ratio,
)
from quantbench.integer.validate import validate, validate_images


class Layer(Protocol):
    """A convolution that is ready to run."""

    def run(self, inputs: list[Tensor]) -> Tensor:
        """Codes, or float32 logits, (N, O, H, W)."""


class Simulation:
    """A program compiled for torch.

    Args:
        program: checked on the way in.
        device: where to run; the result is the same everywhere.
        layer: makes a convolution from the operator, the formats of its inputs and the device.

    """

    def __init__(
        self,
        program: Program,
        device: torch.device | str = "cpu",
        layer: Callable[[Conv, list[Format | None], torch.device], Layer] = ExactConv.of,
    ) -> None:
        validate(program)
        self.program, self.device = program, torch.device(device)
        formats = program.formats
        self._convs = {
            op.output: layer(op, [formats[i] for i in op.inputs], self.device)
            for op in program.ops
            if isinstance(op, Conv)
        }

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, outputs) of float32 images or uint8 codes (N, C, H, W)."""
        return self._run(images, keep=False)[self.program.output].flatten(1)

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        """Every tensor by name: uint8 codes, or float32 where there is no format, each (N, C, H, W)."""
        return self._run(images, keep=True)

    @torch.no_grad()
    def _run(self, images: Tensor, *, keep: bool) -> dict[str, Tensor]:
        program, formats = self.program, self.program.formats
        validate_images(images.detach().cpu().numpy(), program)
        images = images.to(self.device)
        if images.dtype != torch.uint8:
            images = quantize(over(images, program.input.scale), program.input)
        tensors = {"input": images.contiguous(memory_format=torch.channels_last)}
        last_use = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
        for i, op in enumerate(program.ops):
            inputs = [tensors[name] for name in op.inputs]
            if isinstance(op, Conv):
                tensors[op.output] = self._convs[op.output].run(inputs)
            else:
                tensors[op.output] = apply(op, inputs, [known(formats[name]) for name in op.inputs])
            if not keep:
                for name in op.inputs:
                    if last_use[name] == i:
                        tensors.pop(name, None)
        return tensors


def apply(op: Op, inputs: list[Tensor], formats: list[Format]) -> Tensor:  # noqa: C901, PLR0911 - a case an operator
    """Output (N, C, H, W) of any operator but Conv."""
    x, f = inputs[0], formats[0]
    match op:
        case Add():
            a, b = (scaled(x, f, known(op.out)) for x, f in zip(inputs, formats, strict=True))
            return quantize(a + b, known(op.out), op.lo, op.hi)
        case Concat():
            y = known(op.out)
            parts = [
                x if f == y else quantize(scaled(x, f, y), y)
                for x, f in zip(inputs, formats, strict=True)
            ]
            return torch.cat(parts, 1)
        case AvgPool():
            return _avg_pool(op, x, f)
        case MaxPool():
            top, left, bottom, right = op.pads
            # codes are never below the padding's 0
            padded = F.pad(x.float(), (left, right, top, bottom))
            return F.max_pool2d(padded, op.kernel, op.stride).to(torch.uint8)
        case LRN():
            return _lrn(op, x, f)
        case Lut():
            return torch.from_numpy(op.table).to(x.device)[x.long()]
        case Pad():
            front, back, top, left, bottom, right = op.pads
            kept = x[:, :, :: op.stride[0], :: op.stride[1]]
            return F.pad(kept, (left, right, top, bottom, front, back), value=f.zero)
        case Flatten():
            return x.contiguous().reshape(len(x), -1, 1, 1)
        case Dequantize():
            return _real(x, f)
        case Island():
            floats = op.function(*(_real(x, f).cpu() for x, f in zip(inputs, formats, strict=True)))
            t: Tensor = floats.to(x.device)  # its parameters are on the processor
            return t if op.out is None else quantize(over(t, op.out.scale), op.out)
    raise TypeError(type(op).__name__)


def _avg_pool(op: AvgPool, x: Tensor, f: Format) -> Tensor:
    top, left, bottom, right = op.pads
    area = op.kernel[0] * op.kernel[1]
    dtype = torch.float32 if area * 255 < EXACT else torch.float64
    padded = F.pad(x.to(dtype) - f.zero, (left, right, top, bottom))
    total = F.avg_pool2d(padded, op.kernel, op.stride, divisor_override=1)
    inside = F.pad(
        torch.ones(1, 1, *x.shape[2:]), (left, right, top, bottom), value=float(op.count_padding)
    )
    counts = F.avg_pool2d(inside, op.kernel, op.stride, divisor_override=1).long()
    y = known(op.out)
    m = torch.tensor(
        [float(ratio(f.scale, y.scale, c)) for c in counts.flatten().tolist()]
    ).reshape(counts.shape)
    return quantize(total.float() * m.to(x.device), y)


def _lrn(op: LRN, x: Tensor, f: Format) -> Tensor:
    y, d = known(op.out), x.double() - f.zero
    padded = F.pad(d * d, (0, 0, 0, 0, op.size // 2, (op.size - 1) // 2))
    u = op.k + (op.alpha / op.size * (f.scale * f.scale)) * sum(
        (padded[:, i : i + x.shape[1]] for i in range(1, op.size)), padded[:, : x.shape[1]]
    )
    return quantize(d * (f.scale / y.scale) / (u.sqrt() * u.sqrt().sqrt()), y)


def _real(x: Tensor, f: Format) -> Tensor:
    return (x.float() - f.zero) * f.scale
