"""One forward pass that follows the output channels of every layer from function to function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantbench.network.graph.calls import Node
from quantbench.network.graph.forward_pass import recorded
from quantbench.network.layers import TransposedConv
from quantbench.network.modules import ChannelClamp
from quantbench.network.network import Network

_CLAMPS = (nn.ReLU6, ChannelClamp)

_SCALABLE = frozenset(
    (
        *("relu", "relu_", "leaky_relu", "dropout", "identity", "contiguous", "clone", "mean"),
        *("flatten", "view", "reshape", "squeeze"),
        *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
    )
)


_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Identity: "identity",
    nn.Flatten: "flatten",
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), "dropout"),
}

_JOINS = frozenset([torch.cat, torch.concat])


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels of another.

    Attributes:
        layer: its name.
        offset: its input channel that is the other's channel 0; not 0 behind a concatenation.

    """

    layer: str
    offset: int


@dataclass(frozen=True)
class Clamp:
    """A ReLU6 or ``ChannelClamp`` on the way.

    Attributes:
        module: its module name.
        offset: its channel that is the layer's channel 0.
        channels: how many channels it has.

    """

    module: str
    offset: int
    channels: int


_Blocks = tuple[tuple[str | None, int], ...]  # along dimension 1: (layer it came from, channels)


class Trace:
    """Follows the output of every layer from call to call of a recorded forward pass."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.layers = {net.model.get_submodule(i.name): i.name for i in net.layers}
        self.names = {module: name for name, module in net.model.named_modules()}
        self.readers: dict[str, list[Reader]] = {n: [] for n in self.layers.values()}
        self.clamps: dict[str, list[Clamp]] = {n: [] for n in self.layers.values()}
        self.stuck = {i.name for i in net.layers if i.calls > 1}
        self.padded: set[str] = set()
        self.maxpooled: set[str] = set()
        self.blocks: dict[Node, _Blocks] = {}
        self.runs: dict[str, int] = {}  # of every clamp

    def run(self) -> None:
        """Follow everything; what comes out of the network is stuck."""
        for node in recorded(self.net.model, self.net.sample).nodes:
            self.follow(node)
        shared = {module for module, runs in self.runs.items() if runs > 1}
        self.stuck |= {
            n for n, clamps in self.clamps.items() if shared & {c.module for c in clamps}
        }

    def follow(self, node: Node) -> None:
        """Note what one call does to the channels."""
        if node.target in self.layers:
            layer = self.layers[node.target]
            self.read(layer, node.inputs[0])
            self.blocks[node] = ((layer, node.example.shape[1]),)
        elif node.target in _JOINS and _dimension(node) == 1:
            self.blocks[node] = tuple(
                b
                for part in node.inputs
                for b in self.blocks.get(part, ((None, part.example.shape[1]),))
            )
        else:
            clamp = isinstance(node.target, _CLAMPS)
            if clamp:
                self.clamp(self.names[node.target], node.inputs[0])
            known = [n for n in node.inputs if n in self.blocks]
            if len(known) == 1 and self.commutes(node, known[0], clamp=clamp):
                self.blocks[node] = self.blocks[known[0]]
            else:
                self.stop(known)

    def clamp(self, module: str, x: Node) -> None:
        """A clamp runs on ``x``."""
        offset = 0
        self.runs[module] = self.runs.get(module, 0) + 1
        for layer, channels in self.blocks.get(x, ()):
            if layer:
                self.clamps[layer].append(Clamp(module, offset, x.example.shape[1]))
            offset += channels

    def commutes(self, node: Node, x: Node, *, clamp: bool) -> bool:
        """Whether scaling a channel of ``x`` scales that channel of what the call gives alone."""
        name, zeros = _spelling(node), _pads_zeros(node)
        layers = {layer for layer, _ in self.blocks[x] if layer}
        # a module passes its padding on, whatever that is: taken for some
        if zeros or (name == "avg_pool2d" and (isinstance(node.target, nn.Module) or _pads(node))):
            self.padded |= layers
        if "max_pool" in name:
            self.maxpooled |= layers
        out, given = node.example, x.example
        if not isinstance(out, Tensor):
            return False
        same = out.dim() > 1 and out.shape[:2] == given.shape[:2]
        return same and (name in _SCALABLE or zeros or clamp)

    def read(self, layer: str, x: Node) -> None:
        """A layer reads a tensor."""
        offset, module = 0, self.net.model.get_submodule(layer)
        for source, channels in self.blocks.get(x, ()):
            if source:
                self.readers[source].append(Reader(layer, offset))
                if any(_padding(module)):
                    self.padded.add(source)
                linear = self.net.layer(layer).kind == "linear"
                if layer in self.stuck or (x.example.dim() != 2 and linear):
                    self.stuck.add(source)
            offset += channels

    def stop(self, nodes: list[Node]) -> None:
        """Channels that went where scaling cannot follow."""
        for node in nodes:
            self.stuck |= {layer for layer, _ in self.blocks.pop(node, ()) if layer}


def _padding(layer: nn.Module) -> tuple[int, ...]:
    """Width of the zeros around a layer's input; where they follow from more, any number will do.

    Between the inputs of a transposed convolution there are zeros, too.
    """
    padding = getattr(layer, "padding", ())
    return (1,) if isinstance(padding, str) or isinstance(layer, TransposedConv) else tuple(padding)


def _spelling(node: Node) -> str:
    """A call's name, that of the function for a module of torch's."""
    if isinstance(node.target, nn.Module):
        return _MODULES.get(type(node.target), "")
    return getattr(node.target, "__name__", str(node.target))


def _dimension(node: Node) -> int:
    dim: int = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return dim


def _pads(node: Node) -> bool:
    """Whether an average pool is given a padding: behind x, size and stride."""
    return len(node.args) > 3


def _pads_zeros(node: Node) -> bool:
    if isinstance(node.target, nn.ConstantPad1d | nn.ConstantPad2d | nn.ConstantPad3d):
        return not node.target.value
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    return _spelling(node) == "pad" and not value
