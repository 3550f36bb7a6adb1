"""What every channel of every layer puts out over the calibration set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quantbench.network.activation_functions import following_functions
from quantbench.network.folding import BatchNormStats
from quantbench.network.hooks import forward, hooked
from quantbench.network.network import Network
from quantbench.system.tensors import Inputs

STATISTICS = ("batch_norm", "measured")


@dataclass(frozen=True, eq=False)
class Extremes:
    """Smallest and largest value of every output channel of a layer, (out,) each.

    Attributes:
        low: smallest, before the activation function that follows.
        high: largest, before it.
        after: largest |value| behind it.

    """

    low: Tensor
    high: Tensor
    after: Tensor


@torch.no_grad()
def channel_extremes(net: Network, inputs: Inputs) -> dict[str, Extremes]:
    """Extremes of all layers of the full-precision network over all examples, by layer name."""
    after = following_functions(net)
    seen: dict[str, Extremes] = {}

    def look(name: str, z: Tensor, axis: int) -> None:
        rows = z.movedim(axis, 0).flatten(1)
        behind = after[name](z).movedim(axis, 0).flatten(1).abs().amax(1)
        low, high = rows.amin(1), rows.amax(1)
        if name in seen:
            low = torch.minimum(low, seen[name].low)
            high = torch.maximum(high, seen[name].high)
            behind = torch.maximum(behind, seen[name].after)
        seen[name] = Extremes(low, high, behind)

    _watch(net, inputs, look)
    return seen


@torch.no_grad()
def output_statistics(net: Network, inputs: Inputs, how: str) -> Mapping[str, BatchNormStats]:
    """Mean and deviation of each layer's output, by layer name.

    Args:
        net: the full-precision network.
        inputs: examples to measure on.
        how: ``batch_norm`` gives what batch norm knew before it was folded, of layers that had one;
            ``measured`` what all layers put out over the examples.

    """
    if how == "batch_norm":
        return net.batch_norm
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def look(name: str, z: Tensor, axis: int) -> None:
        rows = z.movedim(axis, 0).flatten(1).double()
        first, second, count = sums.get(name, (torch.zeros_like(rows[:, 0]),) * 2 + (0,))
        total, square = first + rows.sum(1), second + rows.square().sum(1)
        sums[name] = total, square, count + rows.shape[1]

    _watch(net, inputs, look)
    found = {}
    for name, (total, square, count) in sums.items():
        mean = total / count
        std = (square / count - mean.square()).clamp(min=0).sqrt()
        ones = torch.ones_like(mean).float()
        found[name] = BatchNormStats(mean.float(), std.float(), ones, ones)
    return found


def _watch(net: Network, inputs: Inputs, look: Callable[[str, Tensor, int], None]) -> None:
    """Show every layer's output, batch by batch, with the dimension that its channels are in."""

    def hook(name: str, axis: int, *seen: Any) -> None:
        look(name, seen[-1], axis)

    layers = ((i, net.model.get_submodule(i.name)) for i in net.layers)
    handles = (
        layer.register_forward_hook(partial(hook, i.name, 1 if i.kind == "conv" else -1))
        for i, layer in layers
    )
    with hooked(*handles):
        forward(net.model, inputs)
