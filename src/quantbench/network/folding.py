"""Folding of batch norm into the layer before it, and what it knew of that layer's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.graph.recording import Recording
from quantbench.network.layers import CONVOLUTIONS, LAYERS
from quantbench.network.plain.make import BatchNorm, is_plain
from quantbench.network.tracing import NOTHING


@dataclass(frozen=True)
class BatchNormStats:
    """What batch norm said of a layer's output before it was folded away, per channel.

    Attributes:
        mean: mean of the output.
        std: its standard deviation.
        kept: var / (var + eps) of the running variance: 1 for a healthy channel, 0 for a dead one,
            whose output is constant and whose folded weights are large for no reason but eps.
        gain: what folding multiplied the layer's weights by, gamma / sqrt(var + eps).

    """

    mean: Tensor
    std: Tensor
    kept: Tensor
    gain: Tensor


def foldable(recording: Recording, model: nn.Module) -> dict[str, str]:
    """Which batch norms may be folded: name of the layer before each, by the batch norm's name.

    Both are torch's own, the layer's output goes into the batch norm and nowhere else, it runs
    once, its weights are read nowhere else, and the dimension that the batch norm scales is the
    layer's output channel.

    Raises:
        BadInput: a batch norm without running statistics.

    """
    names = {module: name for name, module in model.named_modules()}
    read = {id(n.target) for n in recording.nodes if n.op == "get_attr"}  # beside the layer's call
    runs: dict[object, int] = {}
    for node in recording.nodes:
        if isinstance(node.target, nn.Module):
            runs[node.target] = runs.get(node.target, 0) + 1
    found = {}
    for node in recording.nodes:
        norm = node.target
        if not isinstance(norm, BatchNorm) or not is_plain(norm):
            continue
        _parameters(norm, names[norm])
        before = node.inputs[0]
        while isinstance(before.target, NOTHING) and len(before.users) == 1:
            before = before.inputs[0]
        layer = before.target
        if not isinstance(layer, LAYERS) or len(before.users) > 1:
            continue
        # of tokens (N, tokens, channels) batch norm scales another dimension
        channels = isinstance(layer, CONVOLUTIONS) or before.example.dim() == 2
        alone = read.isdisjoint((id(layer.weight), id(layer.bias)))
        if channels and alone and runs[norm] == runs[layer] == 1:
            found[names[norm]] = names[layer]
    return found


def fold(model: nn.Module, norms: Mapping[str, str]) -> dict[str, BatchNormStats]:
    """Fold each batch norm into the layer before it.

    W' = W gamma/sigma, b' = beta + (b - mu) gamma/sigma.

    Args:
        model: changed in place; batch norms become identities.
        norms: name of the layer before each batch norm, by the batch norm's name.

    """
    stats = {}
    for norm_name, layer_name in norms.items():
        norm, layer = model.get_submodule(norm_name), model.get_submodule(layer_name)
        assert isinstance(norm, BatchNorm)
        assert isinstance(layer.weight, Tensor)
        mu, var, gamma, beta = _parameters(norm, norm_name)
        gain = (var.double() + norm.eps).rsqrt() * gamma.double()
        held = layer.bias
        bias = held.double() if isinstance(held, Tensor) else torch.zeros_like(gain)
        shape = (-1,) + (1,) * (layer.weight.dim() - 1)
        weight = (layer.weight.double() * gain.reshape(shape)).float()
        layer.weight = nn.Parameter(weight, requires_grad=False)
        folded = beta.double() + (bias - mu.double()) * gain
        layer.bias = nn.Parameter(folded.float(), requires_grad=False)
        kept = var / (var + norm.eps)
        stats[layer_name] = BatchNormStats(
            beta.detach().clone(), gamma.abs() * kept.sqrt(), kept, gain.float()
        )
        model.set_submodule(norm_name, nn.Identity().eval())
    return stats


def _parameters(
    norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, name: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, variance, gamma and beta; without ``affine`` these two are 1 and 0."""
    if norm.running_mean is None or norm.running_var is None:
        raise BadInput(
            f"batch norm {name!r} keeps no running statistics, so what it does to one example "
            "depends on the others: build it with track_running_stats=True and run the training "
            "data through it"
        )
    ones = torch.ones_like(norm.running_var)
    gamma, beta = (ones, 0 * ones) if norm.weight is None else (norm.weight, norm.bias)
    return norm.running_mean, norm.running_var, gamma, beta
