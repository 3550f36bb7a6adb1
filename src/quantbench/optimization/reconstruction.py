"""Reconstruction errors of layers and blocks, with their derivatives written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quantbench.calibration.layer_moments import weight_gradient
from quantbench.network.modules import Bounds
from quantbench.quantization.layers import QuantLayer


class _SquaredError(torch.autograd.Function):
    """||output - target||^2 / positions in three passes over the data.

    Its graph can be walked once.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor, positions: int) -> Tensor:
        ctx.difference, ctx.positions = torch.sub(output, target, out=target), positions
        loss: Tensor = torch.linalg.vector_norm(ctx.difference).square() / positions
        return loss

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        gradient: Tensor = ctx.difference.mul_(grad[0] * (2 / ctx.positions))
        return gradient, None, None


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """||output - target||^2 summed over channels, mean over examples and positions.

    This is the scaling of the papers' code.

    Channels are dimension 1 of (N, C, H, W) and the last dimension otherwise. ``target`` is
    overwritten.
    """
    channels = output.shape[1 if output.dim() == 4 else -1]
    error: Tensor = _SquaredError.apply(output.float(), target.float(), output.numel() // channels)
    return error


class _LayerError(torch.autograd.Function):
    """Error of one layer, and its derivative by the weights alone, written out and in place."""

    @staticmethod
    def forward(
        ctx: Any,
        w: Tensor,
        layer: QuantLayer,
        x: Tensor,
        target: Tensor,
        activation: str | Bounds | None,
    ) -> Tensor:
        joined, flat = activation == "relu" and layer.joins, None
        out = (layer.op(x, w, layer.bias, relu=True) if joined else layer.run(x, w)).float()
        if isinstance(activation, Bounds):
            low, high = activation.like(out)
            flat = (out <= low) | (out >= high)
            out = out.clamp_(low, high)
        elif activation is not None and not joined:
            out = out.relu_() if activation == "relu" else out.clamp_(0, 6)
        positions = out.numel() // (w.shape[1] if layer.info.kind == "embedding" else w.shape[0])
        error = torch.sub(out, target, out=target)
        loss: Tensor = torch.linalg.vector_norm(error).square() / positions
        # no gradient where the activation function is flat
        if flat is not None:
            error.masked_fill_(flat, 0)
        elif activation == "relu" and not joined:
            error = torch.ops.aten.threshold_backward.grad_input(error, out, 0, grad_input=error)
        elif activation == "relu6":
            error = torch.ops.aten.hardtanh_backward.grad_input(error, out, 0, 6, grad_input=error)
        ctx.save_for_backward(w)
        ctx.layer, ctx.x, ctx.error, ctx.scale = layer, x, error, 2 / positions
        ctx.above = out if joined else None  # the gradient of the weight looks at it by itself
        ctx.half = torch.is_autocast_enabled(x.device.type)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, w, error = ctx.x, ctx.saved_tensors[0], ctx.error
        if ctx.half and ctx.layer.info.kind != "embedding":  # whose inputs are numbers of rows
            x, w, error = x.bfloat16(), w.bfloat16(), error.bfloat16()
        gradient = weight_gradient(ctx.layer, x, w, error, ctx.above).float()
        return gradient.mul_(grad[0] * ctx.scale), None, None, None, None


def layer_error(
    layer: QuantLayer, x: Tensor, w: Tensor, target: Tensor, activation: str | Bounds | None
) -> Tensor:
    """``squared_error`` between f_a(layer(x, w)) and ``target`` in fewer passes over the data.

    Args:
        layer: convolution, linear layer or table of embeddings.
        x: (n, ...) its input.
        w: its weight, the only argument that gets a gradient; the graph can be walked once.
        target: what should come out; overwritten.
        activation: f_a: ``relu``, ``relu6``, bounds per channel or ``None``.

    """
    error: Tensor = _LayerError.apply(w, layer, x, target, activation)
    return error
