"""Each operator of an exported program by itself: as ONNX Runtime runs it, on its own inputs.

So what fell the other way in one operator does not count again in those behind it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from quantbench.integer.ir import Program
from quantbench.integer.lowering.agreement import LARGEST_FLOAT, LARGEST_ROUNDING
from quantbench.integer.scales import known
from quantbench.integer.simulate import apply


@torch.no_grad()
def farthest(program: Program, found: Mapping[str, Tensor]) -> tuple[float, str]:
    """The operator that is farthest from the program's, on the inputs that it was given.

    Args:
        program: what was exported.
        found: every tensor of a run by name, (N, C, H, W) codes each, and ``logits``.

    Returns:
        Its distance, as a part of what lowering allows between a program and its simulation; more
        than 1 is more than roundings do. And its name.

    """
    formats, parts = program.formats, {}
    for op in program.ops:
        right = apply(op, [found[i] for i in op.inputs], [known(formats[i]) for i in op.inputs])
        given = found["logits" if op.output == program.output else op.output]
        right, given = right.double().flatten(), given.double().flatten()
        off = (right - given).square().mean().sqrt()
        size = LARGEST_FLOAT * right.square().mean().sqrt() if op.out is None else LARGEST_ROUNDING
        parts[op.name] = float(off / size)
    name = max(parts, key=lambda k: parts[k])
    return parts[name], name
