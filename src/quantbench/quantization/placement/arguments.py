"""What torch's calls mean, and their parameters: a reader for every spelling of an operator."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.kinds import Kind, number_arguments, pair, window

_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


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


def _concat(node: Node) -> Kind:
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if dim not in (1, 1 - node.example.dim()):
        return Kind("other", why=f"concatenates dimension {dim}")
    return Kind("concat")


def _max_pool(node: Node) -> Kind:
    p = number_arguments(node, _POOL, {"padding": 0, "dilation": 1, "ceil_mode": False})
    if pair(p["dilation"]) != (1, 1):
        return Kind("other", why="a dilated pool")
    kernel = pair(p["kernel_size"])
    stride = pair(p.get("stride") or kernel)
    return Kind("maxpool", window(node, kernel, stride, pair(p["padding"])))


def _avg_pool(node: Node) -> Kind:
    p = number_arguments(node, _AVG, {"padding": 0, "ceil_mode": False, "count_include_pad": True})
    kernel = pair(p["kernel_size"])
    given = window(node, kernel, pair(p.get("stride") or kernel), pair(p["padding"]))
    top, left, bottom, right = given["pads"]
    if p.get("divisor_override") or bottom > top or right > left:
        own = "a divisor of its own or windows beyond the padding"
        return Kind("other", why=f"an average pool with {own}")
    return Kind("avgpool", {**given, "count_padding": bool(p["count_include_pad"])})


def _adaptive(node: Node) -> Kind:
    (h, w), (oh, ow) = node.inputs[0].example.shape[2:], node.example.shape[2:]
    if h % oh or w % ow:
        sizes = f"from {h}x{w} to {oh}x{ow}"
        return Kind("other", why=f"an adaptive pool {sizes}, whose windows differ in size")
    return _whole_windows((h // oh, w // ow))


def _mean(node: Node) -> Kind:
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    rank = node.inputs[0].example.dim()
    if rank != 4 or sorted(d % rank for d in dims) != [2, 3]:
        return Kind("other", why="a mean that is not over rows and columns")
    h, w = node.inputs[0].example.shape[2:]
    return _whole_windows((h, w))


def _whole_windows(kernel: tuple[int, int]) -> Kind:
    """Means over windows that lie side by side."""
    pads = (0, 0, 0, 0)
    given = {"kernel": kernel, "stride": kernel, "pads": pads, "count_padding": True}
    return Kind("avgpool", given)


def _lrn(node: Node) -> Kind:
    names, defaults = ("size", "alpha", "beta", "k"), {"alpha": 1e-4, "beta": 0.75, "k": 1.0}
    p = number_arguments(node, names, defaults)
    if p["beta"] != 0.75:
        return Kind("other", why=f"local response normalization with beta {p['beta']}, not 0.75")
    return Kind("lrn", {"size": p["size"], "alpha": float(p["alpha"]), "k": float(p["k"])})


def _pad(node: Node) -> Kind:
    names = ("padding",) if isinstance(node.target, nn.Module) else ("pad", "mode", "value")
    p = number_arguments(node, (*names, "value"), {"mode": "constant", "value": 0})
    amounts = tuple(p[names[0]])
    left, right, top, bottom, front, back = (*amounts, 0, 0, 0, 0)[:6]
    zeros = p.get("mode", "constant") == "constant" and not p["value"]
    if not zeros or any(amounts[6:]) or min(amounts) < 0:
        return Kind("other", why="padding with something other than zeros")
    return Kind("pad", {"pads": (front, back, top, left, bottom, right), "stride": (1, 1)})


def _slice(node: Node) -> Kind:
    """``x[:, :, ::2, ::2]``; channels alone, such as ``x[:, :24]``; or a part of a split."""
    whole = node.inputs[0]
    if isinstance(whole.example, tuple):
        if whole.target not in _SPLITS or _split(whole).word != "same":
            return Kind("other", why="a part of what is not split along the channels")
        return _chosen(node, through=whole)
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    others = [i for n, i in enumerate(index) if n != 1]
    if len(index) > 1 and isinstance(index[1], slice) and all(i == slice(None) for i in others):
        return _chosen(node)
    if not all(isinstance(i, slice) and i.start is None and i.stop is None for i in index):
        return Kind("other", why="indexing that is not plain subsampling")
    steps = [int(i.step or 1) for i in index] + [1] * (4 - len(index))
    if steps[:2] != [1, 1]:
        return Kind("other", why="subsampling of channels or images")
    return Kind("pad", {"pads": (0,) * 6, "stride": (steps[2], steps[3])})


def _chosen(node: Node, through: Node | None = None) -> Kind:
    """A call that only moves channels: which ones, from what it makes of their numbers.

    Args:
        node: the call.
        through: the split that it takes a part of, if it does.

    """
    source = (through or node).inputs[0]
    channels = source.example.shape[1]
    numbers = torch.arange(channels).reshape(1, -1, *(1,) * (source.example.dim() - 2))
    values: dict[Node, Any] = {source: numbers}
    if through is not None:
        values[through] = through.run(values)
    chosen = tuple(int(c) for c in node.run(values).flatten())
    return (
        Kind("same") if chosen == tuple(range(channels)) else Kind("select", {"channels": chosen})
    )


def _split(node: Node) -> Kind:
    """Parts along the channels; each is read as what it takes of the whole."""
    dim = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    rank = node.inputs[0].example.dim()
    return Kind("same") if dim in (1, 1 - rank) else Kind("other", why=f"splits dimension {dim}")


def _resize(node: Node) -> Kind:
    """Bilinear interpolation between sizes that say where outputs lie."""
    names, given = ("size", "scale_factor", "mode", "align_corners"), {"mode": "nearest"}
    p = number_arguments(node, (*names, "recompute_scale_factor", "antialias"), given)
    if isinstance(node.target, nn.UpsamplingBilinear2d):
        p |= {"mode": "bilinear", "align_corners": True}
    (h, w), (oh, ow) = node.inputs[0].example.shape[2:], node.example.shape[2:]
    corners = bool(p.get("align_corners"))
    if p["mode"] != "bilinear" or p.get("antialias"):
        return Kind("other", why=f"interpolation that is {p['mode']}, or against aliases")
    if (factor := p.get("scale_factor")) and not corners and not p.get("recompute_scale_factor"):
        a, b = factor if isinstance(factor, tuple | list) else (factor, factor)
        if (oh, ow) != (h * a, w * b):
            found = f"from {h}x{w} to {oh}x{ow}"
            return Kind("other", why=f"interpolation {found}, which is not by the factor {factor}")
    return Kind("resize", {"size": (oh, ow), "align_corners": corners})


def _flatten(node: Node) -> Kind:
    x, y = node.inputs[0].example, node.example
    if x.shape == y.shape:
        return Kind("same")
    if y.shape != x.flatten(1).shape:
        return Kind("other", why=f"reshapes to {tuple(y.shape)}")
    return Kind("flatten")


def _unary(node: Node) -> Kind:
    x = node.inputs[0]
    if len(node.inputs) != 1 or x.example.shape != node.example.shape:
        return Kind("other", why="a function of more than one tensor")
    return Kind("lut")


def _same(_: Node) -> Kind:
    return Kind("same")


def _named(home: Any, names: str) -> tuple[Any, ...]:
    return tuple(getattr(home, name) for name in names.split())


_MODULES = "Sigmoid SiLU Hardswish Hardsigmoid GELU Tanh LeakyReLU ELU Mish Softplus"
_FUNCTIONS = "silu hardswish hardsigmoid gelu leaky_relu elu mish softplus sigmoid tanh"
_UNARY = (
    *_named(nn, _MODULES),
    *_named(F, _FUNCTIONS),
    *_named(torch, "sigmoid tanh"),
    *("sigmoid", "tanh", "mul", "mul_", "div", "div_", "sub", "sub_", "neg"),  # by a number: of
    *("__rsub__", "__rdiv__", "pow", "exp", "sqrt", "abs", "square"),  # two tensors it is no table
    *_named(torch, "mul div sub neg pow exp sqrt abs square"),
)

_SPLITS = (torch.chunk, torch.split, "chunk", "split")

# The word that a call becomes, if nothing is in the way; who reads it; and torch's spellings of it:
# modules, functions, and methods by name.
_CALLS: tuple[tuple[str, Callable[[Node], Kind], tuple[Any, ...]], ...] = (
    ("clamp", _clamp(0.0, math.inf), (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_")),
    ("clamp", _clamp(0.0, 6.0), (nn.ReLU6, F.relu6)),
    ("clamp", _hardtanh, (nn.Hardtanh, F.hardtanh, torch._C._nn.hardtanh)),  # noqa: SLF001
    ("clamp", _clamp_call, (torch.clamp, torch.clip, "clamp", "clamp_", "clip")),
    ("add", _add, (torch.add, "add", "add_")),
    ("concat", _concat, (torch.cat, torch.concat)),
    ("maxpool", _max_pool, (nn.MaxPool2d, F.max_pool2d, torch.max_pool2d)),
    ("avgpool", _avg_pool, (nn.AvgPool2d, F.avg_pool2d)),
    ("avgpool", _adaptive, (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d)),
    ("avgpool", _mean, (torch.mean, "mean")),
    ("lrn", _lrn, (nn.LocalResponseNorm, F.local_response_norm)),
    ("pad", _pad, (nn.ZeroPad2d, nn.ConstantPad2d, nn.ConstantPad3d, F.pad)),
    ("pad", _slice, (operator.getitem,)),
    ("select", _chosen, (nn.ChannelShuffle, torch.channel_shuffle)),
    ("resize", _resize, (nn.Upsample, nn.UpsamplingBilinear2d, F.interpolate)),
    ("flatten", _flatten, (nn.Flatten, torch.flatten, torch.reshape, "flatten", "view", "reshape")),
    ("same", _split, _SPLITS),
    ("same", _same, (nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous")),
    ("lut", _unary, _UNARY),
)

READERS = {spelling: reader for _, reader, spellings in _CALLS for spelling in spellings}

WORDS = frozenset(word for word, _, _ in _CALLS)

# words of calls whose results have their input's format
KEEPS_FORMAT = ("same", "maxpool", "pad", "select", "flatten", "clamp")
