"""Which layer feeds which: where the output channels of a layer go, seen in one forward pass.

A channel of one layer may be divided by s if every layer that reads it multiplies by s, and if
everything in between commutes with the scaling: ReLU, pooling, zero padding, concatenation, and
clamps whose bounds are divided by s as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantbench.network.channel_trace import Clamp, Reader, Trace
from quantbench.network.network import Network


@dataclass(frozen=True)
class Link:
    """A layer whose output channels can be scaled one by one, and where they go.

    Attributes:
        layer: its name.
        readers: all layers that read its channels.
        clamps: what clamps them on the way.
        padded: whether zeros are put around them on the way or by a reader; scaling does not mind,
            a shift would.
        maxpooled: whether a maximum is taken on the way, which changes their mean.

    """

    layer: str
    readers: tuple[Reader, ...]
    clamps: tuple[Clamp, ...]
    padded: bool
    maxpooled: bool


def links(net: Network) -> tuple[Link, ...]:
    """Every layer whose output channels can be scaled, in execution order.

    Left out are layers whose output also goes elsewhere: into a sum, a normalization across
    channels, the network's output, a layer that runs twice, a ReLU6 that is no module of its own.
    """
    flow = Trace(net)
    flow.run()
    return tuple(
        Link(
            i.name,
            tuple(flow.readers[i.name]),
            tuple(flow.clamps[i.name]),
            i.name in flow.padded,
            i.name in flow.maxpooled,
        )
        for i in net.layers
        if i.name not in flow.stuck and flow.readers[i.name]
    )
