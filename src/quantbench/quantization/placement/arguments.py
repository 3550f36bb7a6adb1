"""What torch's calls mean, and their parameters: a reader for every spelling of an operator."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from quantbench.network.graph.calls import Node, Size
from quantbench.quantization.placement import moves, windows
from quantbench.quantization.placement.kinds import Kind, number_arguments, plane


def _clamp(low: float, high: float) -> Callable[[Node], Kind]:
    return lambda _: Kind("clamp", {"low": low, "high": high})


def _hardtanh(node: Node) -> Kind:
    p = number_arguments(node, ("min_val", "max_val"), {"min_val": -1.0, "max_val": 1.0})
    return Kind("clamp", {"low": p["min_val"], "high": p["max_val"]})


def _clamp_call(node: Node) -> Kind:
    given = dict(zip(("min", "max"), node.args[1:], strict=False)) | dict(node.kwargs)
    low, high = given.get("min"), given.get("max")
    if any(isinstance(bound, Node) for bound in (low, high)):
        return Kind("other", why="bounds that are tensors")
    params = {"low": -math.inf if low is None else low, "high": math.inf if high is None else high}
    return Kind("clamp", params)


def _add(node: Node) -> Kind:
    if len(node.inputs) == 1:
        return _unary(node)
    a, b = (tuple(n.example.shape) for n in node.inputs)
    if a != b or node.kwargs:
        return Kind("other", why=f"adds shapes {a} and {b}, or scales one")
    return Kind("add")


def _mul(node: Node) -> Kind:
    """A product with a number, or of two tensors of codes, one perhaps stretched."""
    if len(node.inputs) != 2:
        return _unary(node)
    if any(isinstance(a, Size) for a in (*node.args, *node.kwargs.values())):
        return Kind("other", why="a product with the number of examples")
    examples = [n.example for n in node.inputs]
    shapes = [tuple(e.shape) for e in examples]
    if not all(e.is_floating_point() for e in examples) or node.example.dim() != len(shapes[0]):
        return Kind("other", why="a product of what are no two tensors of floats")
    if len(shapes[0]) != len(shapes[1]):
        return Kind("other", why=f"a product of the shapes {shapes[0]} and {shapes[1]}")
    a, b = map(plane, shapes)
    fits = all(n == m or 1 in (n, m) for n, m in zip(a, b, strict=True))
    if not fits or tuple(map(max, a, b)) != plane(node.example.shape):
        return Kind("other", why=f"a product of the shapes {shapes[0]} and {shapes[1]}")
    return Kind("mul")


def _unary(node: Node) -> Kind:
    x = node.inputs[0]
    if len(node.inputs) != 1 or x.example.shape != node.example.shape:
        return Kind("other", why="a function of more than one tensor")
    return Kind("lut")


def _prelu(node: Node) -> Kind:
    """One slope for all channels is a function of one variable."""
    if node.target.num_parameters == 1:
        return _unary(node)
    return Kind("prelu", {"slopes": node.target.weight.detach().double().cpu().numpy()})


def _same(_: Node) -> Kind:
    return Kind("same")


def _named(home: Any, names: str) -> tuple[Any, ...]:
    return tuple(getattr(home, name) for name in names.split())


_MODULES = (
    "Sigmoid SiLU Hardswish Hardsigmoid GELU Tanh LeakyReLU ELU Mish Softplus "
    "CELU SELU LogSigmoid Softsign Tanhshrink Hardshrink Softshrink Threshold RReLU"
)
_FUNCTIONS = (
    "silu hardswish hardsigmoid gelu leaky_relu elu mish softplus sigmoid tanh "
    "celu selu logsigmoid softsign tanhshrink hardshrink softshrink threshold"
)
_UNARY = (
    *_named(nn, _MODULES),
    *_named(F, _FUNCTIONS),
    *_named(torch, "sigmoid tanh erf sin cos log1p"),
    *(
        "sigmoid",
        "sigmoid_",
        "tanh",
        "tanh_",
        "erf",
        "div",
        "div_",
        "sub",
        "sub_",
        "neg",
    ),  # by a number: of
    *("__rsub__", "__rdiv__", "pow", "exp", "sqrt", "abs", "square"),  # two tensors it is no table
    *_named(torch, "div sub neg pow exp sqrt abs square"),
)

_PADS = "ZeroPad1d ZeroPad2d ConstantPad1d ConstantPad2d ConstantPad3d"

_DROPOUTS = "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout"

_SHAPES = (
    *(nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze),
    *("flatten", "view", "reshape", "squeeze", "unsqueeze", "view_as"),
    *("reshape_as", "unflatten", torch.unflatten),
)

_TRANSPOSES = "permute transpose swapaxes swapdims movedim moveaxis"

_TRANSPOSED = (*_TRANSPOSES.split(), *_named(torch, _TRANSPOSES))

_PIXELS = (nn.PixelShuffle, nn.PixelUnshuffle, F.pixel_shuffle, F.pixel_unshuffle)


def _spelled(module: str, function: str) -> tuple[Any, ...]:
    """A pool of lines, images and volumes: torch's modules, and its functions in both homes."""
    found = [getattr(nn, f"{module}{n}d") for n in (1, 2, 3)]
    for home in (F, torch):
        found += [f for n in (1, 2, 3) if (f := getattr(home, f"{function}{n}d", None))]
    return tuple(dict.fromkeys(found))


# The word that a call becomes, if nothing is in the way; who reads it; and torch's spellings of it:
# modules, functions, and methods by name.
_CALLS: tuple[tuple[str, Callable[[Node], Kind], tuple[Any, ...]], ...] = (
    ("clamp", _clamp(0.0, math.inf), (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_")),
    ("clamp", _clamp(0.0, 6.0), (nn.ReLU6, F.relu6)),
    ("clamp", _hardtanh, (nn.Hardtanh, F.hardtanh, torch._C._nn.hardtanh)),  # noqa: SLF001
    ("clamp", _clamp_call, (torch.clamp, torch.clip, "clamp", "clamp_", "clip")),
    ("mul", _mul, (torch.mul, torch.multiply, "mul", "mul_", "multiply", "__rmul__")),
    ("add", _add, (torch.add, "add", "add_")),
    ("concat", moves.concat, (torch.cat, torch.concat)),
    ("maxpool", windows.max_pool, _spelled("MaxPool", "max_pool")),
    ("avgpool", windows.avg_pool, _spelled("AvgPool", "avg_pool")),
    ("avgpool", windows.adaptive, _spelled("AdaptiveAvgPool", "adaptive_avg_pool")),
    ("avgpool", windows.mean, (torch.mean, "mean")),
    ("lrn", windows.lrn, (nn.LocalResponseNorm, F.local_response_norm)),
    ("pad", moves.pad, (*_named(nn, _PADS), F.pad)),
    ("pad", moves.subsampled, (operator.getitem,)),
    ("select", moves.chosen, (nn.ChannelShuffle, torch.channel_shuffle)),
    ("resize", windows.resize, (nn.Upsample, nn.UpsamplingBilinear2d, F.interpolate)),
    ("flatten", moves.reshaped, _SHAPES),
    ("rearrange", moves.transposed, (*_TRANSPOSED, getattr)),
    ("rearrange", moves.pixels, _PIXELS),
    ("same", moves.split, moves.SPLITS),
    ("same", _same, (nn.Identity, *_named(nn, _DROPOUTS), F.dropout, "contiguous")),
    ("lut", _prelu, (nn.PReLU,)),
    ("lut", _unary, _UNARY),
)

READERS = {spelling: reader for _, reader, spellings in _CALLS for spelling in spellings}

WORDS = frozenset(word for word, _, _ in _CALLS)

# words of calls whose results have their input's format
KEEPS_FORMAT = ("same", "maxpool", "pad", "select", "rearrange", "flatten", "clamp")
