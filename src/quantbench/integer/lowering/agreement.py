"""That an integer program computes what it was lowered from, tensor by tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from quantbench.errors import Unsupported
from quantbench.integer.exact import over, quantize
from quantbench.integer.ir import Conv, Format, Op, Program
from quantbench.integer.lowering.formats import act_format
from quantbench.integer.scales import known
from quantbench.integer.simulate import apply
from quantbench.network.checks.oddities import told
from quantbench.network.hooks import hooked
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.quantized import Quantized

# Root mean square of a tensor's differences, in gaps between its levels. Both round the same values
# of the same inputs, the simulation in floats, so that now and then a code differs by one. Of
# correct programs 0.15 was the most (an operator between two roundings); what has nothing to do
# with the right values is off by many.
LARGEST_ROUNDING = 0.5

FLOAT_SUMS = 1e-6  # of the largest value: what float32 sums in another order may be off

LARGEST_FLOAT = 0.01  # distance of outputs that are not rounded, as a part of them


@torch.no_grad()
def require_agreement(program: Program, q: Quantized) -> Tensor:
    """Run every operator on the simulation's own values, and see that it gives the simulation's.

    So errors do not add up from operator to operator: a difference is one of the lowering.

    Returns:
        what the simulation gives for the network's sample.

    Raises:
        Unsupported: a tensor differs by more than roundings can, by name.

    """
    (sample,) = q.net.sample
    values, output = values_of(q, sample)
    formats, acts = program.formats, q.act_quants()
    images = sample.reshape(len(sample), *program.shape).float()
    tensors = {"input": quantize(over(images, program.input.scale), program.input)}
    slack: dict[str, float] = {}
    for op in program.ops:
        kept = op.keeps_format and op.inputs[0] in slack
        slack[op.output] = slack[op.inputs[0]] if kept else _of_bias(op, formats)
        inputs = [tensors[name] for name in op.inputs]
        found = apply(op, inputs, [known(formats[name]) for name in op.inputs])
        tensors[op.output] = found
        if op.output in values and op.out is not None:
            expected = _codes(values[op.output], acts[op.output], op.output)
            expected = expected.reshape(found.shape)
            off = _rms(found.double() - expected) / _gap(acts[op.output])
            room = slack[op.output] + _of_sums(op, formats)
            _require(off, LARGEST_ROUNDING + room, op.output, q)
            tensors[op.output] = expected.to(torch.uint8)
    logits = tensors[program.output].reshape(output.shape)
    same = logits == output  # infinities, such as of classes that are masked
    most = LARGEST_FLOAT * _rms(output[output.isfinite()]) + _of_bias(program.ops[-1], formats)
    _require(_rms((logits - output).masked_fill(same, 0.0)), most, "the output", q)
    return output


def _of_bias(op: Op, formats: Mapping[str, Format | None]) -> float:
    """What the rounding of a convolution's bias may add, in steps of its output.

    A bias is a whole number of products' units, which few bits make large.
    """
    if not isinstance(op, Conv):
        return 0.0
    step = 1.0 if op.out is None else op.out.scale
    units = known(formats[op.inputs[0]]).scale * op.weight_scale.astype(np.float64) / step
    return float(np.sqrt(np.square(units).mean())) / 2


def _of_sums(op: Op, formats: Mapping[str, Format | None]) -> float:
    """What a sum of floats that cancel may be off, in steps of its output.

    Where means of large values are tiny, as behind a normalization, they are the sums' roundings.
    """
    if isinstance(op, Conv) or op.out is None:
        return 0.0
    given = [known(formats[name]) for name in op.inputs]
    largest = max((max(f.hi - f.zero, f.zero - f.lo) * f.scale for f in given), default=0.0)
    return FLOAT_SUMS * largest / op.out.scale


def _rms(t: Tensor) -> float:
    return float(t.double().square().mean().sqrt()) if t.numel() else 0.0


def _require(off: float, most: float, name: str, q: Quantized) -> None:
    if not off <= most:
        raise Unsupported(
            f"{q.net.name}: in the integer program {name} differs from the simulation by {off:.2g} "
            f"on the network's sample, where {most:.2g} is the most that roundings do: this is a "
            f"fault of the lowering of {_maker(name, q)}; please report the network; its "
            "simulation can be used"
        )


def _maker(name: str, q: Quantized) -> str:
    """The module of the user's network that makes a tensor, and what is odd about it."""
    model = q.net.unfolded or q.net.model
    path = re.sub(r"(^|\.)_(\d)", r"\1\2", name.removesuffix("_act"))  # fx's names for numbers
    known = dict(model.named_modules())
    while path not in known:
        path = path.rpartition(".")[0]
    return told(model, path, q.net.sample)


def values_of(q: Quantized, sample: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """What each quantizer of a simulation gives, by name, if it runs once, and the output."""
    values: dict[str, Tensor] = {}
    often: set[str] = set()

    def keep(name: str, value: Tensor) -> None:
        if name in values:
            often.add(name)
        values[name] = value.clone()

    acts = q.act_quants()
    with hooked(
        *(a.register_forward_hook(lambda _m, _x, y, n=n: keep(n, y)) for n, a in acts.items())
    ):
        output = q.model(sample)
    return {n: v for n, v in values.items() if n not in often}, output


def _codes(value: Tensor, act: ActQuant, name: str) -> Tensor:
    """Codes of values that are on the grid already."""
    y, _ = act_format(act.qparams, name)
    return (value.double() / act.scale.double()).round() + y.zero


def _gap(act: ActQuant) -> int:
    """The widest gap between two levels."""
    return max(b - a for a, b in zip(act.levels, act.levels[1:], strict=False))
