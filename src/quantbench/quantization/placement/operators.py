"""What a call of a network means for integer inference."""

from __future__ import annotations

from torch import Tensor, nn

from quantbench.network.graph.calls import Node
from quantbench.network.modules import ChannelClamp
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.placement.arguments import READERS
from quantbench.quantization.placement.kinds import MAPS, Kind


def kind(node: Node) -> Kind:  # noqa: PLR0911 - a rule a kind
    """What the call means; never fails, ``other`` is the answer where nothing else fits."""
    if node.op in ("placeholder", "output"):
        return Kind("input" if node.op == "placeholder" else "output")
    if isinstance(node.target, ActQuant):
        return Kind("quant")
    # what a split gives is looked through
    examples = [node.example, *(n.example for n in node.inputs)]
    tensors = [t for e in examples for t in (e if isinstance(e, tuple) else (e,))]
    if not all(isinstance(t, Tensor) and t.dim() in MAPS for t in tensors):
        return Kind("other", why="a tensor is not (N, C, H, W) or (N, K)")
    if isinstance(node.target, QuantLayer):
        return Kind("layer")
    if isinstance(node.target, ChannelClamp):
        return _channel_clamp(node, node.target)
    if node.why:
        return Kind("other", why=node.why)
    spelling = type(node.target) if isinstance(node.target, nn.Module) else node.target
    reader = READERS.get(spelling)
    if reader is None or any(n.op == "get_attr" for n in node.inputs):
        return Kind("other", why="no integer form of it is known")
    return reader(node)


def _channel_clamp(node: Node, clamp: ChannelClamp) -> Kind:
    """Bounds per channel are part of a layer; nothing else has them."""
    source = node.inputs[0]
    while isinstance(source.target, nn.Identity):
        source = source.inputs[0]
    if not isinstance(source.target, QuantLayer) or len(source.users) > 1:
        return Kind("other", why="bounds per channel that do not directly follow a layer")
    return Kind("clamp", {"low": clamp.low.cpu().numpy(), "high": clamp.high.cpu().numpy()})
