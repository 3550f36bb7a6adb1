"""One forward pass that follows the output channels of every layer from function to function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantbench.network.hooks import hooked
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


class Trace(TorchFunctionMode):
    """Follows the output of every layer from function to function."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net
        names = [i.name for i in net.layers]
        self.weights = {id(net.model.get_submodule(n).weight): n for n in names}
        self.readers: dict[str, list[Reader]] = {n: [] for n in names}
        self.clamps: dict[str, list[Clamp]] = {n: [] for n in names}
        self.stuck = {i.name for i in net.layers if i.calls > 1}
        self.padded: set[str] = set()
        self.maxpooled: set[str] = set()
        self.blocks: dict[int, _Blocks] = {}
        self.alive: list[Tensor] = []  # keeps ids unique
        self.in_clamp = False
        self.runs: dict[str, int] = {}  # of every clamp

    @torch.no_grad()
    def run(self) -> None:
        """One forward pass; what comes out of the network is stuck."""
        clamps = [(n, m) for n, m in self.net.model.named_modules() if isinstance(m, _CLAMPS)]
        with (
            hooked(
                *(
                    m.register_forward_pre_hook(lambda _, x, n=n: self.enter(n, x[0]))
                    for n, m in clamps
                ),
                *(m.register_forward_hook(lambda *_: self.leave()) for _, m in clamps),
            ),
            self,
        ):
            out = self.net.model(*self.net.sample)
        self.stop(_tensors(out))
        shared = {module for module, runs in self.runs.items() if runs > 1}
        self.stuck |= {
            n for n, clamps in self.clamps.items() if shared & {c.module for c in clamps}
        }

    def enter(self, module: str, x: Tensor) -> None:
        """A clamp starts to run on ``x``."""
        self.in_clamp, offset = True, 0
        self.runs[module] = self.runs.get(module, 0) + 1
        for layer, channels in self.blocks.get(id(x), ()):
            if layer:
                self.clamps[layer].append(Clamp(module, offset, x.shape[1]))
            offset += channels

    def leave(self) -> None:
        """The clamp is through."""
        self.in_clamp = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function and note what it does to the channels."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        weighted = name in ("conv2d", "linear") and len(args) > 1
        layer = self.weights.get(id(args[1])) if weighted else None
        if layer:
            self.read(layer, args[0])
            self.keep(out, ((layer, out.shape[1]),))
        elif name == "cat" and (args[1] if len(args) > 1 else kwargs.get("dim", 0)) == 1:
            self.keep(
                out,
                tuple(
                    b
                    for part in args[0]
                    for b in self.blocks.get(id(part), ((None, part.shape[1]),))
                ),
            )
        elif isinstance(out, Tensor):
            known = [t for t in _tensors((args, kwargs)) if id(t) in self.blocks]
            if len(known) == 1 and self.commutes(name, known[0], out, args, kwargs):
                self.keep(out, self.blocks[id(known[0])])
            else:
                self.stop(known)
        return out

    def commutes(
        self, name: str, x: Tensor, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Whether scaling a channel of ``x`` scales that channel of ``out`` and nothing else."""
        value = args[3] if len(args) > 3 else kwargs.get("value")  # pad(x, widths, mode, value)
        zeros = name == "pad" and not value
        layers = {layer for layer, _ in self.blocks[id(x)] if layer}
        # the arguments are x, size, stride and padding
        if zeros or (name == "avg_pool2d" and len(args) > 3):
            self.padded |= layers
        if "max_pool" in name:
            self.maxpooled |= layers
        same = out.dim() > 1 and out.shape[:2] == x.shape[:2]
        return same and (name in _SCALABLE or zeros or self.in_clamp)

    def read(self, layer: str, x: Tensor) -> None:
        """A layer reads a tensor."""
        offset = 0
        for source, channels in self.blocks.get(id(x), ()):
            if source:
                self.readers[source].append(Reader(layer, offset))
                if any(_padding(self.net.model.get_submodule(layer))):
                    self.padded.add(source)
                if layer in self.stuck or (x.dim() != 2 and self.net.layer(layer).kind == "linear"):
                    self.stuck.add(source)
            offset += channels

    def keep(self, out: Tensor, blocks: _Blocks) -> None:
        """Remember what the channels of a tensor are."""
        self.blocks[id(out)] = blocks
        self.alive.append(out)

    def stop(self, tensors: list[Tensor]) -> None:
        """Channels that went where scaling cannot follow."""
        for t in tensors:
            self.stuck |= {layer for layer, _ in self.blocks.pop(id(t), ()) if layer}


def _padding(layer: nn.Module) -> tuple[int, ...]:
    """Width of the zeros around a layer's input; for ``same`` padding any number will do."""
    padding = getattr(layer, "padding", ())
    return (1,) if isinstance(padding, str) else tuple(padding)


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list | tuple):
        parts = ()
    return [t for part in parts for t in _tensors(part)]
