"""A call's meaning, and its parameters in one spelling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from quantbench.network.graph.calls import Node
from quantbench.network.layers import Geometry
from quantbench.quantization.layers import QuantLayer

# dimensions of what programs hold as (C, H, W): a number for each example (N) as (1, 1, 1), vectors
# (N, K) as (K, 1, 1), lines (N, C, L) as (C, 1, L), images, volumes (N, C, D, H, W) as (C, D, H W),
# and so on
MAPS = (1, 2, 3, 4, 5, 6)

EVERYWHERE = -1  # the axis of an operator that has a number for each position

VOLUME = -2  # the axis of a layer of volumes (C, D, H, W), which takes C * D for its channels

MOST = 1 << 16  # channels, rows and columns of a program's tensor

MOST_WEIGHTS = 1 << 26  # of a layer of volumes as one of images


SUMS = ("layer", "affine")  # words of what becomes a convolution


@dataclass(frozen=True)
class Kind:
    """A word for an operator, and its parameters in one spelling.

    Words: an integer operator's name in small letters (add, mul, concat, maxpool, avgpool, lrn,
    lut, pad, select, rearrange, resize, flatten), or input, output, quant, layer, affine (a product
    and a sum for each channel), prelu (with a slope for each), clamp, same, and other, which has no
    integer form for the reason in ``why``.

    ``axis`` says which direction of one example the operator takes for its channels: of tokens
    (T, C), a linear layer the last one; ``EVERYWHERE`` all of them together.
    """

    word: str
    params: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    axis: int = 0


def without_integers(layer: QuantLayer, sizes: Sequence[int] = ()) -> str:
    """Why a program has no operator for a layer; empty if it has one.

    Args:
        layer: the layer.
        sizes: (C, ...) of its input, where they are known.

    """
    g = layer.geometry
    if g is None:
        return ""
    if len(g.kernel) == 3 and (why := _without_volumes(layer, g, sizes)):
        return why
    cut = any(a < 0 or b < s - 1 for (a, b), s in zip(g.pads, g.spread, strict=True))
    if cut:
        return "padding that cuts off"
    rows = math.prod(sizes[:-1]) * (g.spread[-2] if len(g.spread) > 1 else 1)
    wide = max(g.spread) > 1 and rows > MOST
    return f"a transposed convolution of {rows} rows of channels" if wide else ""


def _without_volumes(layer: QuantLayer, g: Geometry, sizes: Sequence[int]) -> str:
    if max(g.spread) > 1:
        return "a transposed convolution of volumes"
    if not sizes or any(p < 0 for pair in g.pads for p in pair):
        return ""
    depth, made = sizes[1], layers_of_volume(g, sizes[1])
    if layer.weight.numel() // g.kernel[0] * depth * made > MOST_WEIGHTS:
        return f"a convolution of volumes of {depth} layers, which takes too many weights"
    wide = max(sizes[0] * depth, layer.info.shape[0] * made) > MOST
    return "a convolution of volumes of too many channels" if wide else ""


def layers_of_volume(g: Geometry, depth: int) -> int:
    """How many layers the result of a convolution of a volume has."""
    reach = (g.kernel[0] - 1) * g.dilation[0] + 1
    return (depth + sum(g.pads[0]) - reach) // g.stride[0] + 1


def number_arguments(
    node: Node, names: tuple[str, ...], defaults: dict[str, Any]
) -> dict[str, Any]:
    """Parameters of a module by attribute, or of a function by position and keyword."""
    if isinstance(node.target, nn.Module):
        return {name: getattr(node.target, name, defaults.get(name)) for name in names}
    given = dict(zip(names, node.args[1:], strict=False))
    return {**defaults, **given, **{k: v for k, v in node.kwargs.items() if k in names}}


def plane(shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) that programs hold a value of some shape (N, ...) as, see ``MAPS``."""
    c, *size = shape[1:] or (1,)
    rows, *columns = ([1] * (2 - len(size)) + size) if len(size) < 2 else size
    return int(c), int(rows), int(math.prod(columns))
