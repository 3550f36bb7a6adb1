"""3x3 convolutions of few channels in float32, at stride 1, on a processor with AVX-512 or AVX2.

Small networks spend most of a reconstruction step in them, where torch's kernels reach half of what
the processor can do. In ours, what lies between a layer and the sum and ReLU that follow it is
never stored. Anything else is torch's convolution.

Values and gradients have the same bits for any number of threads. They depend on the instruction
set, which is the best that the processor has: another one adds in another order, and on AVX2 the
convolution is Winograd's, so that an input that is not finite spoils its neighbours too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# input times output channels up to which our kernels are the faster ones, measured on Ice Lake
LARGEST = 96 * 128

NARROWEST = 8  # pixels of a row below which they waste vectors


def fits(layer: nn.Conv2d) -> bool:
    """Whether a layer's shape is one that our kernels are made for."""
    geometry = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups
    c, k = layer.in_channels, layer.out_channels
    return (
        geometry == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        and c % 16 == 0
        and k % 16 == 0
        and c * k <= LARGEST
    )


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """F.conv2d(x, weight, bias, padding=1), plus ``add``, through a ReLU if asked.

    Differentiable once, and not by ``torch.func``, where our kernels are used.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3); C and K multiples of 16.
        bias: (K,).
        add: (N, K, H, W).
        relu: whether negative values become 0.

    """
    if not _suits(weight, bias, images=[x]):
        y = F.conv2d(x, weight, bias, padding=1)
    elif add is None or (add.shape == (len(x), len(weight), *x.shape[2:]) and _suits(images=[add])):
        return _apply(x, weight, bias, add, relu)
    else:
        y = _apply(x, weight, bias, None, False)
    if add is not None:
        y = y.add_(add) if (add.dtype, add.shape) == (y.dtype, y.shape) else y + add
    return y.relu_() if relu else y


def weight_gradient(x: Tensor, dy: Tensor, above: Tensor | None = None) -> Tensor | None:
    """Gradient (K, C, 3, 3) of :func:`conv3x3`'s weight, or ``None`` where it must be torch's.

    ``dy`` counts where ``above``, if given, is above 0: the output of a ReLU.
    """
    images = [x, dy] if above is None else [x, dy, above]
    return _backward(x, None, dy, above)[1] if _suits(images=images) else None


def _suits(*others: Tensor, images: list[Tensor]) -> bool:
    """Whether these are float32 on the processor, channels-last and wide enough for our kernels."""
    return (
        _native() is not None
        and not torch.is_autocast_enabled("cpu")
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (*others, *images))
        and all(t.dim() == 4 and t.shape[3] >= NARROWEST for t in images)
        and all(t.is_contiguous(memory_format=torch.channels_last) for t in images)
    )


@cache
def _native() -> Any:
    """The extension, or ``None`` where it was not built or has no code for this processor."""
    try:
        import quantbench._native as module  # type: ignore[import-not-found]  # which keys of results see

        return module if module.float_instruction_sets() else None
    except (ImportError, AttributeError):  # not built, or built from older sources
        return None


def _apply(x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, relu: bool) -> Tensor:
    y: Tensor = _Convolution.apply(x, weight, bias, add, relu)
    return y


class _Convolution(torch.autograd.Function):
    """Convolution, sum and ReLU in one pass, and their derivative in another."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, relu: bool
    ) -> Tensor:
        y = _images(x.shape[0], weight.shape[0], x)
        filters = weight.detach().permute(2, 3, 1, 0).contiguous()
        arrays = _nhwc(x), filters.numpy(), bias.detach().contiguous().numpy(), _nhwc(add)
        _native().float_conv(*arrays, relu, _nhwc(y), _threads())
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        need_x, need_weight, need_bias, need_add, _ = ctx.needs_input_grad
        dy = dy.contiguous(memory_format=torch.channels_last)
        if y is not None and (need_bias or need_add):
            dy, y = torch.ops.aten.threshold_backward(dy, y, 0), None
        dx, dw = _backward(x, weight if need_x else None, dy, y, wanted=need_weight)
        return dx, dw, dy.sum((0, 2, 3)) if need_bias else None, dy if need_add else None, None


def _backward(
    x: Tensor, weight: Tensor | None, dy: Tensor, y: Tensor | None, *, wanted: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the images, given a weight, and of the weight if wanted.

    ``dy`` counts where ``y`` is positive.
    """
    c, k = x.shape[1], dy.shape[1]
    dx = turned = dw = None
    if weight is not None:
        dx, turned = (
            _images(x.shape[0], c, x),
            weight.flip(2, 3).permute(2, 3, 0, 1).contiguous().numpy(),
        )
    if wanted:
        dw = x.new_empty(3, 3, c, k)
    if dx is not None or dw is not None:
        filters = None if dw is None else dw.numpy()
        _native().float_conv_back(
            _nhwc(x), turned, _nhwc(dy), _nhwc(y), _nhwc(dx), filters, _threads()
        )
    return dx, None if dw is None else dw.permute(3, 2, 0, 1)


def _threads() -> int:
    return min(torch.get_num_threads(), 1024)


def _images(n: int, channels: int, like: Tensor) -> Tensor:
    """Uninitialised images (n, channels, H, W), channels last; no view, for it is written to."""
    shape = n, channels, *like.shape[2:]
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _nhwc(t: Tensor | None) -> Any:
    """The same memory as an array (N, H, W, C)."""
    return None if t is None else t.detach().permute(0, 2, 3, 1).numpy()
