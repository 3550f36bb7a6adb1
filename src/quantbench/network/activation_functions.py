"""Activation functions of layers, among them ReLU6 whose bounds differ from channel to channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.hooks import hooked
from quantbench.network.network import Network

Activation = Callable[[Tensor], Tensor]

NO_CEILING = 1e30  # stays finite when it is scaled; infinite weights and buffers are refused


class ChannelClamp(nn.Module):
    """min(max(x, low), high) with one bound of each kind per channel (dimension 1).

    ReLU6 after a layer whose channels were divided by s is min(max(x, 0), 6 / s): only so does
    equalization leave the full-precision network as it was.

    Attributes:
        low: (channels,) lower bounds.
        high: (channels,) upper bounds, ``NO_CEILING`` where there is none.

    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", low.detach().clone())
        self.register_buffer("high", high.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Clamp an (N, C, ...) tensor."""
        return self.bounds(x)

    @property
    def bounds(self) -> Bounds:
        """Its function, without the module."""
        return Bounds(self.low, self.high)


@dataclass(frozen=True, eq=False)
class Bounds:
    """The function of a ``ChannelClamp`` as a value.

    Attributes:
        low: (channels,) lower bounds.
        high: (channels,) upper bounds.

    """

    low: Tensor
    high: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Clamp an (N, C, ...) tensor."""
        found: Tensor = _Clamp.apply(x, *self.like(x))  # type: ignore[no-untyped-call]
        return found

    def like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both bounds as they broadcast over an (N, C, ...) tensor."""
        shape = (-1,) + (1,) * (x.dim() - 2)
        return self.low.reshape(shape), self.high.reshape(shape)


class _Clamp(torch.autograd.Function):
    """Clamping to bounds that are not learnt: one pass back, where autograd makes eight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        clamped = torch.clamp(x, low, high)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(clamped != x)
        return clamped

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (outside,) = ctx.saved_tensors
        return grads[0].masked_fill(outside, 0), None, None


def clamps(model: nn.Module) -> dict[str, ChannelClamp]:
    """Every ``ChannelClamp`` of a network by module name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, ChannelClamp)}


def following_functions(net: Network) -> dict[str, Activation]:
    """The activation function that directly follows each layer, by layer name.

    The identity where none does.
    """
    plain: dict[str | None, Activation] = {None: _identity, "relu": F.relu, "relu6": F.relu6}
    found = {info.name: plain[info.activation] for info in net.layers}
    return found | clamped_layers(net)


def _identity(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def clamped_layers(net: Network) -> dict[str, ChannelClamp]:
    """Layers whose output tensor goes into a ``ChannelClamp``, seen in one forward pass."""
    if not clamps(net.model):
        return {}
    source: dict[int, str] = {}
    alive: list[Tensor] = []  # keeps ids unique
    found: dict[str, ChannelClamp] = {}

    def after(name: str, output: Tensor) -> None:
        source[id(output)] = name
        alive.append(output)

    def before(clamp: ChannelClamp, x: Tensor) -> None:
        if (name := source.get(id(x))) is not None:
            found[name] = clamp

    layers = ((i.name, net.model.get_submodule(i.name)) for i in net.layers)
    with hooked(
        *(
            layer.register_forward_hook(lambda _m, _x, y, n=name: after(n, y))
            for name, layer in layers
        ),
        *(
            clamp.register_forward_pre_hook(lambda m, x: before(m, x[0]))
            for clamp in clamps(net.model).values()
        ),
    ):
        net.model(*net.sample)
    return found
