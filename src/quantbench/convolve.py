"""Convolutions in float32 that reconstruction repeats: 3x3, stride 1, few channels, on a processor with AVX-512.

Small networks spend most of a reconstruction step in them, where torch's kernels reach half of what the processor can
do. Ours do not store what a sum and a ReLU that follow would read again. Anything else is torch's convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST = 96 * 128  # input times output channels up to which our kernels are the faster ones, measured on Ice Lake
NARROWEST = 8  # pixels of a row below which they waste vectors


def operator(layer: nn.Conv2d) -> Callable[..., Tensor]:
    """The function (x, weight, bias) of a convolution layer; :func:`conv3x3` where the layer allows it."""
    if fits(layer):
        return conv3x3
    return partial(F.conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)


def fits(layer: nn.Conv2d) -> bool:
    """Whether a layer's shape is one that our kernels are made for."""
    geometry = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups
    c, k = layer.in_channels, layer.out_channels
    return geometry == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and c % 16 == 0 and k % 16 == 0 and c * k <= LARGEST


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """F.conv2d(x, weight, bias, padding=1), plus ``add``, through a ReLU if asked.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3); C and K multiples of 16.
        bias: (K,).
        add: (N, K, H, W).
        relu: whether negative values become 0.

    """
    if _native() is not None and _suits(x, weight, bias) and (add is None or _suits(add)):
        y: Tensor = _Convolution.apply(x, weight, bias, add, relu)
        return y
    y = F.conv2d(x, weight, bias, padding=1)
    y = y if add is None else y + add
    return y.relu() if relu else y


def weight_gradient(x: Tensor, dy: Tensor) -> Tensor | None:
    """Gradient (K, C, 3, 3) of the weight of :func:`conv3x3`, or ``None`` where it must be torch's."""
    if _native() is None or not _suits(x, dy):
        return None
    return _backward(x, None, dy, None)[1]


def _suits(*tensors: Tensor) -> bool:
    """Whether our kernels take these: float32 in the processor's memory, images as channels-last wide enough."""
    return not torch.is_autocast_enabled("cpu") and all(
        t.dtype == torch.float32
        and t.device.type == "cpu"
        and (t.dim() == 1 or t.shape[2:] == (3, 3) or (t.shape[3] >= NARROWEST and _dense(t)))
        for t in tensors
    )


def _dense(t: Tensor) -> bool:
    return t.is_contiguous(memory_format=torch.channels_last)


@cache
def _native() -> Any:
    """The extension, or ``None`` where it was not built or the processor lacks AVX-512."""
    try:
        module = import_module("quantbench.integer._native")
    except ImportError:
        return None
    return module if module.float_conv_runs_here() else None


class _Convolution(torch.autograd.Function):
    """Convolution, sum and ReLU in one pass, and their derivative in another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, relu: bool) -> Tensor:
        y = _images(x.shape[0], weight.shape[0], x)
        filters = weight.permute(2, 3, 1, 0).contiguous()
        whole = [_nhwc(x), filters.numpy(), bias.detach().numpy(), None if add is None else _nhwc(add)]
        _native().float_conv(*whole, relu, _nhwc(y), torch.get_num_threads())
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, kept = ctx.saved_tensors
        need_x, need_weight, need_bias, need_add, _ = ctx.needs_input_grad
        dy = dy.contiguous(memory_format=torch.channels_last)
        if kept is not None and (need_bias or need_add):
            dy, kept = torch.ops.aten.threshold_backward(dy, kept, 0), None
        dx, dw = _backward(x, weight if need_x else None, dy, kept)
        return dx, dw if need_weight else None, dy.sum((0, 2, 3)) if need_bias else None, dy if need_add else None, None


def _backward(x: Tensor, weight: Tensor | None, dy: Tensor, kept: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Gradients of the images, given a weight, and of the weight; ``dy`` counts where ``kept`` is positive."""
    c, k = x.shape[1], dy.shape[1]
    dx = None if weight is None else _images(x.shape[0], c, x)
    turned = x.new_empty(3, 3, k, c) if weight is None else weight.flip(2, 3).permute(2, 3, 0, 1).contiguous()
    dw = x.new_empty(3, 3, c, k)
    images = [_nhwc(x), turned.numpy(), _nhwc(dy), *(None if t is None else _nhwc(t) for t in (kept, dx))]
    _native().float_conv_back(*images, dw.numpy(), torch.get_num_threads())
    return dx, dw.permute(3, 2, 0, 1)


def _images(n: int, channels: int, like: Tensor) -> Tensor:
    """Uninitialised images (n, channels, H, W), channels last; no view, which nobody could overwrite."""
    return torch.empty(n, channels, *like.shape[2:], memory_format=torch.channels_last)


def _nhwc(t: Tensor) -> Any:
    """The same memory as an array (N, H, W, C)."""
    return t.detach().permute(0, 2, 3, 1).numpy()
