"""A call's meaning, and its parameters in one spelling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from quantbench.network.graph.calls import Node

MAPS = (2, 4)  # dimensions of (N, K) and (N, C, H, W), the tensors that a program has


@dataclass(frozen=True)
class Kind:
    """A word for an operator, and its parameters in one spelling.

    Words: an integer operator's name in small letters (add, concat, maxpool, avgpool, lrn, lut,
    pad, select, resize, flatten), or input, output, quant, layer, clamp, same, and other, which has
    no integer form for the reason in ``why``.
    """

    word: str
    params: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def number_arguments(
    node: Node, names: tuple[str, ...], defaults: dict[str, Any]
) -> dict[str, Any]:
    """Parameters of a module by attribute, or of a function by position and keyword."""
    if isinstance(node.target, nn.Module):
        return {name: getattr(node.target, name, defaults.get(name)) for name in names}
    given = dict(zip(names, node.args[1:], strict=False))
    return {**defaults, **given, **{k: v for k, v in node.kwargs.items() if k in names}}


def window(
    node: Node, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> dict[str, Any]:
    """Windows with explicit padding on all four sides, as far as the last window reaches."""
    size, out = node.inputs[0].example.shape[2:], node.example.shape[2:]
    # how far windows reach beyond the end: below 0 where the stride leaves a rest
    each = zip(out, stride, kernel, size, pad, strict=True)
    ends = [(o - 1) * s + k - n - p for o, s, k, n, p in each]
    return {"kernel": kernel, "stride": stride, "pads": (*pad, max(0, ends[0]), max(0, ends[1]))}


def pair(value: Any) -> tuple[int, int]:
    """One number for both directions, or two."""
    a, b = value if isinstance(value, tuple | list) else (value, value)
    return int(a), int(b)
