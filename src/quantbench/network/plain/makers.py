"""Functions with weights as layers of torch: what a recorded call becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.layers import TransposedConv, as_convolution

_CLASSES: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _conv(given: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = given["weight"], given.get("bias")
    if weight is ... or bias is ...:
        return None
    groups = int(given.get("groups", 1))
    out, each, *kernel = weight.shape
    geometry = {k: given[k] for k in ("stride", "padding", "dilation") if k in given}
    cls: Any = _CLASSES[len(kernel)]
    has = bias is not None
    made = cls(each * groups, out, tuple(kernel), groups=groups, bias=has, **geometry)
    found: nn.Module = _filled(made, weight, bias)
    return found


def _transposed(given: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = given["weight"], given.get("bias")
    if weight is ... or bias is ...:
        return None
    groups, rank = int(given.get("groups", 1)), weight.dim() - 2
    start = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    geometry = {k: _each(given.get(k, v), rank) for k, v in start.items()}
    return TransposedConv(as_convolution(weight, groups), bias, groups=groups, **geometry)


def _each(value: Any, rank: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(int(v) for v in (values * rank if len(values) == 1 else values))


def _linear(given: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = given["weight"], given.get("bias")
    if weight is ... or bias is ...:
        return None
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _filled(made, weight, bias)


def _embedding(given: Mapping[str, Any]) -> nn.Module | None:
    weight = given["weight"]
    if weight is ...:
        return None
    if (limit := given.get("max_norm")) is not None:  # rows are scaled when they are first read
        kind = float(given.get("norm_type", 2.0))
        rows = torch.arange(len(weight), device=weight.device)
        weight = torch.embedding_renorm_(weight.detach().clone(), rows, float(limit), kind)
    return _filled(nn.Embedding(*weight.shape), weight, None)


def _norm(given: Mapping[str, Any]) -> nn.Module | None:
    mean, var = given.get("running_mean"), given.get("running_var")
    weight, bias = given.get("weight"), given.get("bias")
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor) or given.get("training"):
        return None
    if weight is ... or bias is ...:
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}.get(given["rank"])
    made = (kind or nn.BatchNorm2d)(
        len(mean), eps=given.get("eps", 1e-5), affine=weight is not None
    )
    made.running_mean, made.running_var = mean.detach().clone(), var.detach().clone()
    return made if weight is None else _filled(made, weight, bias)


def _filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    vars(module)["_parameters"]["weight"] = nn.Parameter(weight.detach().clone())
    if bias is not None:
        vars(module)["_parameters"]["bias"] = nn.Parameter(bias.detach().clone())
    return module


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_UP = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_TABLE = ("input", "weight", "padding_idx", "max_norm", "norm_type")

MAKERS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], nn.Module | None]]] = {
    **{f"conv{n}d": (_CONV, _conv) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (_UP, _transposed) for n in (1, 2, 3)},
    "linear": (("input", "weight", "bias"), _linear),
    "embedding": (_TABLE, _embedding),
    F.batch_norm.__name__: (_NORM, _norm),
}
