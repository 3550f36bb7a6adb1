"""Products and sums for each channel: an unfolded batch norm, a learnt scale, a shift."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.kinds import EVERYWHERE, MOST, Kind

_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

AFFINE_CALLS: frozenset[Any] = frozenset(
    [
        *("mul", "mul_", "add", "add_", "sub", "sub_", "div", "div_"),
        *("__rmul__", "__radd__", "__rsub__"),
        *(torch.mul, torch.add, torch.sub, torch.div),
        *(operator.mul, operator.add, operator.sub, operator.truediv),
    ]
)


def affine_norm(norm: _Norm) -> Kind:
    """A batch norm with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return _kind(gain, shift)


@torch.no_grad()
def affine_call(node: Node) -> Kind:
    """A product or sum of a tensor and a constant.

    It mostly differs along one direction alone, whose positions are then the channels.
    """
    free = [n for n in node.inputs if not n.constant]
    held = {n: n.example for n in node.inputs if n.constant}
    rank = node.example.dim()
    if any(t.dim() == rank and len(t) > 1 for t in held.values()):
        return Kind("other", why="a constant for each example")
    if len(free) != 1 or free[0].example.shape != node.example.shape:
        return Kind("other", why="no integer form of it is known")
    (x,) = free
    ends = [
        node.run({x: torch.full_like(x.example[:1], v, dtype=torch.float64), **held})
        for v in (0.0, 1.0)
    ]
    low, high = (t[0] for t in ends)
    if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
        return Kind("other", why="a constant that is no number")
    for axis in range(low.dim()):
        a, b = (t.movedim(axis, 0).flatten(1) if t.dim() > 1 else t[:, None] for t in (low, high))
        if all(torch.equal(t, t[:, :1].expand_as(t)) for t in (a, b)):
            return _kind((b - a)[:, 0], a[:, 0], axis)
    if low.numel() > MOST:
        return Kind("other", why=f"a constant for each of {low.numel()} positions")
    return _kind((high - low).flatten(), low.flatten(), EVERYWHERE)


def _kind(gain: Tensor, shift: Tensor, axis: int = 0) -> Kind:
    return Kind("affine", {"gain": _numbers(gain), "shift": _numbers(shift)}, axis=axis)


def _numbers(t: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = t.detach().double().cpu().numpy()
    return found
