"""Activation functions of layers, among them ReLU6 whose bounds differ from channel to channel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.hooks import hooked
from quantbench.network.modules import Bounds, ChannelClamp
from quantbench.network.network import Network

Activation = Callable[[Tensor], Tensor]


def clamps(model: nn.Module) -> dict[str, ChannelClamp]:
    """Every ``ChannelClamp`` of a network by module name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, ChannelClamp)}


def following_functions(net: Network) -> dict[str, Activation]:
    """The activation function that directly follows each layer, by layer name.

    The identity where none does.
    """
    plain: dict[str | None, Activation] = {None: _identity, "relu": F.relu, "relu6": F.relu6}
    found = {info.name: plain[info.activation] for info in net.layers}
    found |= {info.name: Bounds.alike(info.limits) for info in net.layers if info.limits}
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
