"""What a call means for integer inference, whichever of torch's spellings it uses: module, function or method."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from quantbench.integer.graph import Node
from quantbench.layers import ActQuant, QuantLayer

MAPS = (2, 4)  # dimensions of (N, K) and (N, C, H, W), the tensors that a program has


@dataclass(frozen=True)
class Kind:
    """A word for an operator, and its parameters in one spelling.

    Words: input, output, quant, layer, clamp, lut, add, concat, maxpool, avgpool, lrn, pad, flatten, same, and other,
    which has no integer form for the reason in ``why``.
    """

    word: str
    params: dict[str, Any] = field(default_factory=dict)
    why: str = ""


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
        *(F.silu, F.hardswish, F.hardsigmoid, F.gelu, F.leaky_relu, F.elu, F.mish, F.softplus, F.sigmoid, F.tanh),
        *(torch.sigmoid, torch.tanh, "sigmoid", "tanh", operator.mul, operator.truediv, operator.sub, operator.neg),
    ),
}
_WORDS = {spelling: word for word, spellings in _SPELLINGS.items() for spelling in spellings}
_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def kind(node: Node) -> Kind:
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
    word = _WORDS.get(type(node.target) if isinstance(node.target, nn.Module) else node.target)
    if word is None or any(n.op == "get_attr" for n in node.inputs):
        return Kind("other", why="no integer form of it is known")
    return _READERS[word](node)


def _number_arguments(node: Node, names: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a module by attribute, or of a function by position and keyword."""
    if isinstance(node.target, nn.Module):
        return {name: getattr(node.target, name, defaults.get(name)) for name in names}
    given = dict(zip(names, node.args[1:], strict=False))
    return {**defaults, **given, **{k: v for k, v in node.kwargs.items() if k in names}}


def _clamp(low: float, high: float) -> Callable[[Node], Kind]:
    return lambda _: Kind("clamp", {"low": low, "high": high})


def _hardtanh(node: Node) -> Kind:
    p = _number_arguments(node, ("min_val", "max_val"), {"min_val": -1.0, "max_val": 1.0})
    return Kind("clamp", {"low": p["min_val"], "high": p["max_val"]})


def _add(node: Node) -> Kind:
    if len(node.inputs) == 1:
        return _unary(node)
    a, b = node.inputs
    if a.example.shape != b.example.shape or node.kwargs:
        return Kind("other", why=f"adds shapes {tuple(a.example.shape)} and {tuple(b.example.shape)}, or scales one")
    return Kind("add")


def _concat(node: Node) -> Kind:
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return Kind("concat") if dim in (1, 1 - node.example.dim()) else Kind("other", why=f"concatenates dimension {dim}")


def _max_pool(node: Node) -> Kind:
    p = _number_arguments(node, _POOL, {"padding": 0, "dilation": 1, "ceil_mode": False})
    if pair(p["dilation"]) != (1, 1):
        return Kind("other", why="a dilated pool")
    kernel = pair(p["kernel_size"])
    return Kind("maxpool", _window(node, kernel, pair(p.get("stride") or kernel), pair(p["padding"])))


def _avg_pool(node: Node) -> Kind:
    p = _number_arguments(node, _AVG, {"padding": 0, "ceil_mode": False, "count_include_pad": True})
    kernel = pair(p["kernel_size"])
    window = _window(node, kernel, pair(p.get("stride") or kernel), pair(p["padding"]))
    top, left, bottom, right = window["pads"]
    if p.get("divisor_override") or bottom > top or right > left:
        return Kind("other", why="an average pool with a divisor of its own or windows beyond the padding")
    return Kind("avgpool", {**window, "count_padding": bool(p["count_include_pad"])})


def _adaptive(node: Node) -> Kind:
    (h, w), (oh, ow) = node.inputs[0].example.shape[2:], node.example.shape[2:]
    if h % oh or w % ow:
        return Kind("other", why=f"an adaptive pool from {h}x{w} to {oh}x{ow}, whose windows differ in size")
    kernel = (h // oh, w // ow)
    return Kind("avgpool", {"kernel": kernel, "stride": kernel, "pads": (0, 0, 0, 0), "count_padding": True})


def _mean(node: Node) -> Kind:
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    rank = node.inputs[0].example.dim()
    if rank != 4 or sorted(d % rank for d in (dims if isinstance(dims, tuple | list) else (dims,))) != [2, 3]:  # noqa: PLR2004
        return Kind("other", why="a mean that is not over rows and columns")
    kernel = tuple(node.inputs[0].example.shape[2:])
    return Kind("avgpool", {"kernel": kernel, "stride": kernel, "pads": (0, 0, 0, 0), "count_padding": True})


def _lrn(node: Node) -> Kind:
    p = _number_arguments(node, ("size", "alpha", "beta", "k"), {"alpha": 1e-4, "beta": 0.75, "k": 1.0})
    if p["beta"] != 0.75:  # noqa: PLR2004 - the definition's
        return Kind("other", why=f"local response normalization with beta {p['beta']}, not 0.75")
    return Kind("lrn", {"size": p["size"], "alpha": float(p["alpha"]), "k": float(p["k"])})


def _pad(node: Node) -> Kind:
    names = ("padding",) if isinstance(node.target, nn.Module) else ("pad", "mode", "value")
    p = _number_arguments(node, (*names, "value"), {"mode": "constant", "value": 0})
    amounts = tuple(p[names[0]])
    left, right, top, bottom, front, back, *rest = (*amounts, *(0,) * (8 - len(amounts)))
    if p.get("mode", "constant") != "constant" or p["value"] or any(rest) or min(amounts) < 0:
        return Kind("other", why="padding with something other than zeros")
    return Kind("pad", {"pads": (front, back, top, left, bottom, right), "stride": (1, 1)})


def _slice(node: Node) -> Kind:
    """``x[:, :, ::2, ::2]``."""
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if not all(isinstance(i, slice) and i.start is None and i.stop is None for i in index):
        return Kind("other", why="indexing that is not plain subsampling")
    steps = [int(i.step or 1) for i in index] + [1] * (4 - len(index))
    if steps[:2] != [1, 1]:
        return Kind("other", why="subsampling of channels or images")
    return Kind("pad", {"pads": (0,) * 6, "stride": (steps[2], steps[3])})


def _flatten(node: Node) -> Kind:
    x, y = node.inputs[0].example, node.example
    if x.shape == y.shape:
        return Kind("same")
    return Kind("flatten") if y.shape == x.flatten(1).shape else Kind("other", why=f"reshapes to {tuple(y.shape)}")


def _unary(node: Node) -> Kind:
    x = node.inputs[0]
    if len(node.inputs) != 1 or x.example.shape != node.example.shape:
        return Kind("other", why="a function of more than one tensor")
    return Kind("lut")


def _window(node: Node, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]) -> dict[str, Any]:
    """Windows with explicit padding on all four sides, as far as the last window reaches."""
    size, out = node.inputs[0].example.shape[2:], node.example.shape[2:]
    ends = [
        (o - 1) * s + k - n - p for o, s, k, n, p in zip(out, stride, kernel, size, pad, strict=True)
    ]  # may be negative where the stride leaves a rest
    return {"kernel": kernel, "stride": stride, "pads": (*pad, max(0, ends[0]), max(0, ends[1]))}


def pair(value: Any) -> tuple[int, int]:
    """One number for both directions, or two."""
    a, b = value if isinstance(value, tuple | list) else (value, value)
    return int(a), int(b)


_READERS: dict[str, Callable[[Node], Kind]] = {
    "relu": _clamp(0.0, math.inf),
    "relu6": _clamp(0.0, 6.0),
    "hardtanh": _hardtanh,
    "add": _add,
    "concat": _concat,
    "maxpool": _max_pool,
    "avgpool": _avg_pool,
    "adaptive": _adaptive,
    "mean": _mean,
    "lrn": _lrn,
    "pad": _pad,
    "slice": _slice,
    "flatten": _flatten,
    "same": lambda _: Kind("same"),
    "unary": _unary,
}
