"""Pools, means, normalization over windows and interpolation: their windows in one spelling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import nn

from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.kinds import Kind, number_arguments, plane
from quantbench.quantization.placement.moves import below_all

_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def max_pool(node: Node) -> Kind:
    """Maxima over windows of lines or images."""
    p = number_arguments(node, _POOL, {"padding": 0, "dilation": 1, "ceil_mode": False})
    rank = node.example.dim()
    if rank > 4:
        return Kind("other", why="a pool of volumes")
    if _pair(p["dilation"], rank, 1) != (1, 1):
        return Kind("other", why="a dilated pool")
    kernel = _pair(p["kernel_size"], rank, 1)
    stride = _pair(p.get("stride") or p["kernel_size"], rank, 1)
    given = _window(node, kernel, stride, _pair(p["padding"], rank, 0))
    if more := below_all(node.inputs[0]):
        given["pads"] = tuple(a + b for a, b in zip(given["pads"], more, strict=True))
    return Kind("maxpool", given)


def avg_pool(node: Node) -> Kind:
    """Means over windows of lines or images."""
    p = number_arguments(node, _AVG, {"padding": 0, "ceil_mode": False, "count_include_pad": True})
    rank = node.example.dim()
    if rank > 4:
        return Kind("other", why="a pool of volumes")
    kernel = _pair(p["kernel_size"], rank, 1)
    stride = _pair(p.get("stride") or p["kernel_size"], rank, 1)
    given = _window(node, kernel, stride, _pair(p["padding"], rank, 0))
    top, left, bottom, right = given["pads"]
    if p.get("divisor_override") or bottom > top or right > left:
        own = "a divisor of its own or windows beyond the padding"
        return Kind("other", why=f"an average pool with {own}")
    return Kind("avgpool", {**given, "count_padding": bool(p["count_include_pad"])})


def adaptive(node: Node) -> Kind:
    """Means over windows that are given by their number."""
    before, after = node.inputs[0].example.shape, node.example.shape
    if any(n % m for n, m in zip(before[2:], after[2:], strict=True)):
        sizes = f"from {tuple(before[2:])} to {tuple(after[2:])}"
        return Kind("other", why=f"an adaptive pool {sizes}, whose windows differ in size")
    if len(before) == 5 and math.prod(after[3:]) != 1:
        return Kind("other", why="a pool of volumes")
    (_, h, w), (_, oh, ow) = plane(before), plane(after)
    return _side_by_side((h // oh, w // ow))


def mean(node: Node) -> Kind:
    """A mean over all positions, of maps or of tokens, whose channels are last."""
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    shape = node.inputs[0].example.shape
    rank = len(shape)
    over = [] if None in dims else sorted(d % rank for d in dims)
    if rank > 2 and over == list(range(2, rank)):
        return _side_by_side(plane(shape)[1:])
    if rank > 2 and over == list(range(1, rank - 1)):
        window = plane((1, shape[-1], *shape[1:-1]))[1:]
        return replace(_side_by_side(window), axis=rank - 2)
    return Kind("other", why="a mean that is not over all positions")


def lrn(node: Node) -> Kind:
    """Local response normalization."""
    names, defaults = ("size", "alpha", "beta", "k"), {"alpha": 1e-4, "beta": 0.75, "k": 1.0}
    p = number_arguments(node, names, defaults)
    if p["beta"] != 0.75:
        return Kind("other", why=f"local response normalization with beta {p['beta']}, not 0.75")
    return Kind("lrn", {"size": p["size"], "alpha": float(p["alpha"]), "k": float(p["k"])})


def resize(node: Node) -> Kind:
    """Bilinear interpolation between sizes that say where outputs lie."""
    names, given = ("size", "scale_factor", "mode", "align_corners"), {"mode": "nearest"}
    p = number_arguments(node, (*names, "recompute_scale_factor", "antialias"), given)
    if isinstance(node.target, nn.UpsamplingBilinear2d):
        p |= {"mode": "bilinear", "align_corners": True}
    if node.example.dim() != 4:
        return Kind("other", why="interpolation of what is no image")
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


def _window(
    node: Node, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> dict[str, Any]:
    """Windows with explicit padding on all four sides, as far as the last window reaches."""
    size, out = plane(node.inputs[0].example.shape)[1:], plane(node.example.shape)[1:]
    # how far windows reach beyond the end: below 0 where the stride leaves a rest
    each = zip(out, stride, kernel, size, pad, strict=True)
    ends = [(o - 1) * s + k - n - p for o, s, k, n, p in each]
    return {"kernel": kernel, "stride": stride, "pads": (*pad, max(0, ends[0]), max(0, ends[1]))}


def _side_by_side(kernel: tuple[int, int]) -> Kind:
    """Means over windows that lie side by side."""
    pads = (0, 0, 0, 0)
    given = {"kernel": kernel, "stride": kernel, "pads": pads, "count_padding": True}
    return Kind("avgpool", given)


def _pair(value: Any, rank: int, other: int) -> tuple[int, int]:
    """One number for both directions, or two; of lines (rank 3) one, and ``other`` for rows."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if rank == 3:
        return other, int(values[0])
    a, b = values if len(values) == 2 else values * 2
    return int(a), int(b)
