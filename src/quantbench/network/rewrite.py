"""A changed copy of a full-precision network.

Weights, biases, clamps and batch-norm statistics change together.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.channel_flow import Link
from quantbench.network.channel_trace import Clamp, Reader
from quantbench.network.layers import LAYERS
from quantbench.network.modules import ChannelClamp
from quantbench.network.network import Network
from quantbench.system.tensors import Inputs

LOOKED_AT = 8  # examples on which a rewritten network is compared

# of float32 over a few dozen rescalings, with room for channels that are constant but for 1e-5
ROUNDING = 1e-2


class Rewrite:
    """Collects changes; ``network()`` is the result. The network it starts from stays as it is."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.model = copy.deepcopy(net.model)
        self.batch_norm = dict(net.batch_norm)

    def network(self) -> Network:
        """The changed network, looked at afresh."""
        kinds = tuple({type(self.model.get_submodule(i.name)) for i in self.net.layers})
        net, old = self.model, self.net
        new = Network.of(
            net, old.sample, name=old.name, blocks=old.blocks, stages=old.stages, kinds=kinds
        )
        return replace(new, batch_norm=self.batch_norm, unfolded=None, origin=old.origin_digest)

    def same_function(self, inputs: Inputs, within: float = ROUNDING) -> Network:
        """The changed network, which has to compute what the one it came from does.

        Args:
            inputs: examples, of which a few are looked at.
            within: the change that may be, see :func:`change`.

        Raises:
            BadInput: it does not.

        """
        new = self.network()
        found = change(self.net, new, inputs)
        if not found <= within:
            raise BadInput(
                f"{self.net.name}: rewriting changed the output by {found:.2g} of its deviation, "
                "and should not have; please report the network"
            )
        return new

    def weight(self, layer: str) -> Tensor:
        """Weight, (out, in/groups, ...), to be changed in place."""
        weight = self.model.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        return weight.data

    def bias(self, layer: str) -> Tensor:
        """Bias, (out,), to be changed in place; zeros are put where there was none."""
        module = self.model.get_submodule(layer)
        assert isinstance(module, LAYERS)
        if module.bias is None:
            weight = self.weight(layer)
            zeros = weight.new_zeros(weight.shape[0])
            module.bias = nn.Parameter(zeros, requires_grad=False)
        bias = module.bias
        assert isinstance(bias, Tensor)
        return bias.data

    def output_range(self, layer: str) -> Tensor:
        """Largest |w| of every output channel, (out,)."""
        return self.weight(layer).flatten(1).abs().amax(1)

    def input_range(self, link: Link) -> Tensor:
        """Largest |w| (out,) that meets each output channel of a link's layer, over all readers."""
        n = self.weight(link.layer).shape[0]
        each = [
            self._columns(r.layer).abs().amax((1, 3)).flatten()[r.offset : r.offset + n]
            for r in link.readers
        ]
        return torch.stack(each).amax(0)

    def input_share(self, link: Link) -> Tensor:
        """Largest |w| that meets each output channel, as a share of the reading layer's largest.

        (out,), the largest over all readers; 0 where they are 0.
        """
        n = self.weight(link.layer).shape[0]
        tiny = torch.finfo(torch.float32).tiny
        each = []
        for r in link.readers:
            columns = self._columns(r.layer).abs()
            met = columns.amax((1, 3)).flatten()[r.offset : r.offset + n]
            each.append(met / columns.amax().clamp(min=tiny))
        return torch.stack(each).amax(0)

    def divide(self, link: Link, s: Tensor) -> None:
        """Divide every output channel and its clamps by ``s`` (out,); multiply where it is read."""
        weight = self.weight(link.layer)
        weight.div_(s.reshape((-1,) + (1,) * (weight.dim() - 1)))
        self.bias(link.layer).div_(s)
        for at in link.clamps:
            for bound in self.bounds(at):
                bound[at.offset : at.offset + len(s)] /= s
        self._multiply(link, s)
        if stats := self.batch_norm.get(link.layer):
            self.batch_norm[link.layer] = replace(stats, mean=stats.mean / s, std=stats.std / s)

    def shift(self, link: Link, c: Tensor) -> None:
        """Subtract ``c`` (out,) from every output channel and its ceilings.

        W c is added where it is read.
        """
        self.bias(link.layer).sub_(c)
        for at in link.clamps:
            self.bounds(at)[1][at.offset : at.offset + len(c)] -= c
        for reader in link.readers:
            columns = self._columns(reader.layer)
            gained = torch.einsum("goik,gi->go", columns, _placed(c, reader, columns, 0.0))
            self.bias(reader.layer).add_(gained.flatten())
        if stats := self.batch_norm.get(link.layer):
            self.batch_norm[link.layer] = replace(stats, mean=stats.mean - c)

    def mute(self, link: Link, channels: Tensor) -> None:
        """Set the weights to 0 that meet some of the output channels, given as a mask (out,)."""
        self._multiply(link, (~channels).float())

    def _multiply(self, link: Link, factor: Tensor) -> None:
        """Multiply the weights that meet each output channel by ``factor`` (out,)."""
        for reader in link.readers:
            columns = self._columns(reader.layer)
            columns.mul_(_placed(factor, reader, columns, 1.0)[:, None, :, None])

    def bounds(self, at: Clamp) -> tuple[Tensor, Tensor]:
        """Bounds of a clamp, (channels,) each, to be changed in place.

        A ReLU6 becomes a ``ChannelClamp``.
        """
        module = self.model.get_submodule(at.module)
        if not isinstance(module, ChannelClamp) or len(module.high) != at.channels:
            low, high = (
                (module.low, module.high) if isinstance(module, ChannelClamp) else (0.0, 6.0)
            )
            like = torch.ones(at.channels, device=self.net.device)
            module = ChannelClamp(low * like, high * like)
            self.put(at.module, module)
        return module.low, module.high

    def put(self, name: str, module: nn.Module) -> None:
        """Replace a module."""
        self.model.set_submodule(name, module)

    def _columns(self, layer: str) -> Tensor:
        """View of a layer's weight as (groups, out/groups, in/groups, kernel)."""
        weight = self.weight(layer)
        groups = int(getattr(self.model.get_submodule(layer), "groups", 1))
        return weight.view(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _placed(values: Tensor, reader: Reader, columns: Tensor, rest: float) -> Tensor:
    """``values`` (out,) at their places among a reader's input channels.

    (groups, in/groups), with ``rest`` elsewhere.
    """
    placed = columns.new_full((columns.shape[0] * columns.shape[2],), rest)
    placed[reader.offset : reader.offset + len(values)] = values
    return placed.reshape(columns.shape[0], -1)


@torch.no_grad()
def change(before: Network, after: Network, inputs: Inputs) -> float:
    """What a rewrite did to the output on a few examples, in standard deviations of the output."""
    few = tuple(t[:LOOKED_AT] for t in inputs)
    old, new = before.model(*few).double(), after.model(*few).double()
    tiny = torch.finfo(torch.float32).tiny
    return float(((new - old).square().mean() / old.var().clamp(min=tiny)).sqrt())
