"""Parameters of calls in one spelling, for every kind of operator that integer inference knows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from quantbench.quantization.placement.graph import Node

_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


@dataclass(frozen=True)
class Kind:
    """A word for an operator, and its parameters in one spelling.

    Words: input, output, quant, layer, clamp, lut, add, concat, maxpool, avgpool, lrn, pad,
    flatten, same, and other, which has no integer form for the reason in ``why``.
    """

    word: str
    params: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def _number_arguments(
    node: Node, names: tuple[str, ...], defaults: dict[str, Any]
) -> dict[str, Any]:
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
        return Kind(
            "other",
            why=f"adds shapes {tuple(a.example.shape)} and {tuple(b.example.shape)}, or scales one",
        )
    return Kind("add")


def _concat(node: Node) -> Kind:
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return (
        Kind("concat")
        if dim in (1, 1 - node.example.dim())
        else Kind("other", why=f"concatenates dimension {dim}")
    )


def _max_pool(node: Node) -> Kind:
    p = _number_arguments(node, _POOL, {"padding": 0, "dilation": 1, "ceil_mode": False})
    if pair(p["dilation"]) != (1, 1):
        return Kind("other", why="a dilated pool")
    kernel = pair(p["kernel_size"])
    return Kind(
        "maxpool", _window(node, kernel, pair(p.get("stride") or kernel), pair(p["padding"]))
    )


def _avg_pool(node: Node) -> Kind:
    p = _number_arguments(node, _AVG, {"padding": 0, "ceil_mode": False, "count_include_pad": True})
    kernel = pair(p["kernel_size"])
    window = _window(node, kernel, pair(p.get("stride") or kernel), pair(p["padding"]))
    top, left, bottom, right = window["pads"]
    if p.get("divisor_override") or bottom > top or right > left:
        return Kind(
            "other", why="an average pool with a divisor of its own or windows beyond the padding"
        )
    return Kind("avgpool", {**window, "count_padding": bool(p["count_include_pad"])})


def _adaptive(node: Node) -> Kind:
    (h, w), (oh, ow) = node.inputs[0].example.shape[2:], node.example.shape[2:]
    if h % oh or w % ow:
        return Kind(
            "other", why=f"an adaptive pool from {h}x{w} to {oh}x{ow}, whose windows differ in size"
        )
    kernel = (h // oh, w // ow)
    return Kind(
        "avgpool", {"kernel": kernel, "stride": kernel, "pads": (0, 0, 0, 0), "count_padding": True}
    )


def _mean(node: Node) -> Kind:
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    rank = node.inputs[0].example.dim()
    if rank != 4 or sorted(
        d % rank for d in (dims if isinstance(dims, tuple | list) else (dims,))
    ) != [2, 3]:
        return Kind("other", why="a mean that is not over rows and columns")
    kernel = tuple(node.inputs[0].example.shape[2:])
    return Kind(
        "avgpool", {"kernel": kernel, "stride": kernel, "pads": (0, 0, 0, 0), "count_padding": True}
    )


def _lrn(node: Node) -> Kind:
    p = _number_arguments(
        node, ("size", "alpha", "beta", "k"), {"alpha": 1e-4, "beta": 0.75, "k": 1.0}
    )
    if p["beta"] != 0.75:
        return Kind("other", why=f"local response normalization with beta {p['beta']}, not 0.75")
    return Kind("lrn", {"size": p["size"], "alpha": float(p["alpha"]), "k": float(p["k"])})


def _pad(node: Node) -> Kind:
    names = ("padding",) if isinstance(node.target, nn.Module) else ("pad", "mode", "value")
    p = _number_arguments(node, (*names, "value"), {"mode": "constant", "value": 0})
    amounts = tuple(p[names[0]])
    left, right, top, bottom, front, back = (*amounts, 0, 0, 0, 0)[:6]
    if (
        p.get("mode", "constant") != "constant"
        or p["value"]
        or any(amounts[6:])
        or min(amounts) < 0
    ):
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
    return (
        Kind("flatten")
        if y.shape == x.flatten(1).shape
        else Kind("other", why=f"reshapes to {tuple(y.shape)}")
    )


def _unary(node: Node) -> Kind:
    x = node.inputs[0]
    if len(node.inputs) != 1 or x.example.shape != node.example.shape:
        return Kind("other", why="a function of more than one tensor")
    return Kind("lut")


def _window(
    node: Node, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> dict[str, Any]:
    """Windows with explicit padding on all four sides, as far as the last window reaches."""
    size, out = node.inputs[0].example.shape[2:], node.example.shape[2:]
    ends = [
        (o - 1) * s + k - n - p
        for o, s, k, n, p in zip(out, stride, kernel, size, pad, strict=True)
    ]  # may be negative where the stride leaves a rest
    return {"kernel": kernel, "stride": stride, "pads": (*pad, max(0, ends[0]), max(0, ends[1]))}


def pair(value: Any) -> tuple[int, int]:
    """One number for both directions, or two."""
    a, b = value if isinstance(value, tuple | list) else (value, value)
    return int(a), int(b)


READERS: dict[str, Callable[[Node], Kind]] = {
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
