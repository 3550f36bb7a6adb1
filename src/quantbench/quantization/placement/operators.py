"""What a call of a network means for integer inference."""

from __future__ import annotations

from torch import Tensor, nn

from quantbench.network.graph.calls import Node
from quantbench.network.modules import ChannelClamp
from quantbench.network.plain.make import BatchNorm
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.placement import moves
from quantbench.quantization.placement.affine import AFFINE_CALLS, affine_call, affine_norm
from quantbench.quantization.placement.arguments import READERS
from quantbench.quantization.placement.kinds import MAPS, VOLUME, Kind, without_integers

_UNKNOWN = "no integer form of it is known"


def kind(node: Node) -> Kind:  # noqa: PLR0911 - a rule a kind
    """What the call means; never fails, ``other`` is the answer where nothing else fits."""
    if node.op in ("placeholder", "output"):
        return Kind("input" if node.op == "placeholder" else "output")
    if isinstance(node.target, ActQuant):
        return Kind("quant")
    if why := _no_tensor_of_programs(node):
        return Kind("other", why=why)
    if isinstance(node.target, QuantLayer):
        return _layer(node, node.target)
    if isinstance(node.target, ChannelClamp):
        return _channel_clamp(node, node.target)
    if node.why:
        return Kind("other", why=node.why)
    spelling = type(node.target) if isinstance(node.target, nn.Module) else node.target
    reader = READERS.get(spelling)
    if any(n.constant for n in node.inputs):
        return affine_call(node) if spelling in AFFINE_CALLS else Kind("other", why=_UNKNOWN)
    if isinstance(node.target, BatchNorm):
        return affine_norm(node.target)
    if isinstance(node.example, tuple) and reader is not moves.split:
        return Kind("other", why="it gives several tensors")
    return Kind("other", why=_UNKNOWN) if reader is None else reader(node)


def _no_tensor_of_programs(node: Node) -> str:
    """Why a call's tensors are none that programs have; empty if they are."""
    if node.constant and node.op != "get_attr":
        return "it depends on no input"
    # what a split gives is looked through; constants become numbers
    examples = [node.example, *(n.example for n in node.inputs if not n.constant)]
    tensors = [t for e in examples for t in (e if isinstance(e, tuple) else (e,))]
    if not all(isinstance(t, Tensor) and t.dim() in MAPS for t in tensors):
        return "a tensor is no vector, line, image or volume"
    if not all(t.numel() for t in tensors):
        return "a tensor without entries"
    if not all(t.is_floating_point() for t in tensors):
        return "a tensor has truth values, or whole or complex numbers"
    if not all(n.by_example for n in (node, *node.inputs) if not n.constant):
        return "its first dimension is not that of the examples"
    return ""


def _layer(node: Node, layer: QuantLayer) -> Kind:
    """A layer that programs have; a linear one takes the last direction for its channels."""
    given = node.inputs[0].example
    if layer.info.kind == "embedding":
        return Kind("other", why="a table")
    if layer.geometry is None:
        return Kind("layer", axis=given.dim() - 2)
    if given.dim() != len(layer.geometry.kernel) + 2:
        return Kind("other", why=f"a layer without examples of {tuple(given.shape)}")
    if why := without_integers(layer, given.shape[1:]):
        return Kind("other", why=why)
    return Kind("layer", axis=VOLUME if given.dim() == 5 else 0)


def _channel_clamp(node: Node, clamp: ChannelClamp) -> Kind:
    """Bounds per channel are part of a layer; nothing else has them."""
    source = node.inputs[0]
    while isinstance(source.target, nn.Identity):
        source = source.inputs[0]
    layer = isinstance(source.target, QuantLayer) and kind(source).axis == 0
    if not layer or len(source.users) > 1:
        return Kind("other", why="bounds per channel that do not directly follow a layer")
    return Kind("clamp", {"low": clamp.low.cpu().numpy(), "high": clamp.high.cpu().numpy()})
