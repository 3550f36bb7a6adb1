"""Activation functions of layers, among them ReLU6 whose bounds differ from channel to channel."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.graph.forward_pass import recorded
from quantbench.network.modules import Bounds, ChannelClamp
from quantbench.network.network import Network
from quantbench.network.tracing import NOTHING

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


def clamped_layers(net: Network) -> dict[str, ChannelClamp]:
    """Layers whose output goes into a ``ChannelClamp``, seen in one forward pass."""
    if not clamps(net.model):
        return {}
    names = {net.model.get_submodule(i.name): i.name for i in net.layers}
    found: dict[str, ChannelClamp] = {}
    for node in recorded(net.model, net.sample).nodes:
        if isinstance(node.target, ChannelClamp):
            before = node.inputs[0]
            while isinstance(before.target, NOTHING):
                before = before.inputs[0]
            if (name := names.get(before.target)) is not None:
                found[name] = node.target
    return found
