"""What a call means for integer inference, whichever of torch's spellings it uses: module, function or method."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.activation_functions import ChannelClamp
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.placement.arguments import READERS, Kind
from quantbench.quantization.placement.graph import Node

MAPS = (2, 4)  # dimensions of (N, K) and (N, C, H, W), the tensors that a program has

_SPELLINGS: dict[str, tuple[Any, ...]] = {
    "relu": (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"),
    "relu6": (nn.ReLU6, F.relu6),
    "hardtanh": (nn.Hardtanh, F.hardtanh),
    "add": (operator.add, operator.iadd, torch.add, "add", "add_"),
    "concat": (torch.cat, torch.concat),
    "maxpool": (nn.MaxPool2d, F.max_pool2d, torch.max_pool2d),
    "avgpool": (nn.AvgPool2d, F.avg_pool2d),
    "adaptive": (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    "mean": (torch.mean, "mean"),
    "lrn": (nn.LocalResponseNorm, F.local_response_norm),
    "pad": (nn.ZeroPad2d, nn.ConstantPad2d, nn.ConstantPad3d, F.pad),
    "slice": (operator.getitem,),
    "flatten": (nn.Flatten, torch.flatten, torch.reshape, "flatten", "view", "reshape"),
    "same": (nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous"),
    "unary": (
        *(
            nn.Sigmoid,
            nn.SiLU,
            nn.Hardswish,
            nn.Hardsigmoid,
            nn.GELU,
            nn.Tanh,
            nn.LeakyReLU,
            nn.ELU,
            nn.Mish,
            nn.Softplus,
        ),
        *(
            F.silu,
            F.hardswish,
            F.hardsigmoid,
            F.gelu,
            F.leaky_relu,
            F.elu,
            F.mish,
            F.softplus,
            F.sigmoid,
            F.tanh,
        ),
        *(
            torch.sigmoid,
            torch.tanh,
            "sigmoid",
            "tanh",
            operator.mul,
            operator.truediv,
            operator.sub,
            operator.neg,
        ),
    ),
}

_WORDS = {spelling: word for word, spellings in _SPELLINGS.items() for spelling in spellings}


def kind(node: Node) -> Kind:  # noqa: PLR0911 - a rule a kind
    """What the call means; never fails, ``other`` is the answer where nothing else fits."""
    if node.op in ("placeholder", "output"):
        return Kind("input" if node.op == "placeholder" else "output")
    if isinstance(node.target, ActQuant):
        return Kind("quant")
    tensors = [node, *node.inputs]
    if not all(isinstance(n.example, Tensor) and n.example.dim() in MAPS for n in tensors):
        return Kind("other", why="a tensor is not (N, C, H, W) or (N, K)")
    if isinstance(node.target, QuantLayer):
        return Kind("layer")
    if isinstance(node.target, ChannelClamp):
        return _channel_clamp(node, node.target)
    word = _WORDS.get(type(node.target) if isinstance(node.target, nn.Module) else node.target)
    if word is None or any(n.op == "get_attr" for n in node.inputs):
        return Kind("other", why="no integer form of it is known")
    return READERS[word](node)


def _channel_clamp(node: Node, clamp: ChannelClamp) -> Kind:
    """Bounds per channel are part of a layer; nothing else has them."""
    source = node.inputs[0]
    while isinstance(source.target, nn.Identity):
        source = source.inputs[0]
    if not isinstance(source.target, QuantLayer) or len(source.users) > 1:
        return Kind("other", why="bounds per channel that do not directly follow a layer")
    return Kind("clamp", {"low": clamp.low.cpu().numpy(), "high": clamp.high.cpu().numpy()})
