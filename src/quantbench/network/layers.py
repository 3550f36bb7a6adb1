"""What counts as a layer with weights, and its geometry, whatever its rank.

Every layer here has a weight (out, in/groups, ...) whose first dimension is the output channel,
so that grids per channel, ranges and rounding look at the right axis. torch's transposed
convolutions have theirs elsewhere, and are brought into this form by ``network.plain``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

_CONVOLVE: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSE: tuple[Callable[..., Tensor], ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)


class TransposedConv(nn.Module):
    """A transposed convolution with its weight as that of a convolution.

    It is the convolution, at stride 1, of its input with ``stride - 1`` zeros between neighbours;
    torch's weight is (in, out/groups, ...), this one is turned and flipped.

    Args:
        weight: (out, in/groups, ...), see :func:`as_convolution`.
        bias: (out,) or None.
        stride: per dimension, as for ``nn.ConvTranspose2d``.
        padding: per dimension.
        output_padding: per dimension.
        dilation: per dimension.
        groups: number of groups.

    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        output_padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias: nn.Parameter | None = None
        if bias is not None:
            self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.output_padding, self.groups = output_padding, groups
        self.kernel_size = tuple(weight.shape[2:])
        self.out_channels, self.in_channels = weight.shape[0], weight.shape[1] * groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, ...) to (N, out, ...)."""
        return self.function(x, self.weight, self.bias)

    def function(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with another weight and bias."""
        convolve = _TRANSPOSE[len(self.kernel_size) - 1]
        turned = as_transposed(weight, self.groups)
        sizes = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return convolve(x, turned, bias, *sizes)


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, TransposedConv)

LAYERS: tuple[type[nn.Module], ...] = (*CONVOLUTIONS, nn.Linear)  # what is quantized by default


def layer_kinds(kinds: tuple[type[nn.Module], ...]) -> tuple[type[nn.Module], ...]:
    """The classes that stand for those that a user names."""
    mine = (TransposedConv if issubclass(k, TRANSPOSED) else k for k in kinds)
    return tuple(dict.fromkeys(mine))


def as_convolution(weight: Tensor, groups: int) -> Tensor:
    """Weight (out, in/groups, ...) of torch's (in, out/groups, ...): turned and flipped."""
    kernel = weight.shape[2:]
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    flipped = grouped.reshape(-1, weight.shape[0] // groups, *kernel)
    return flipped.flip(tuple(range(2, weight.dim())))


def as_transposed(weight: Tensor, groups: int) -> Tensor:
    """The way back."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    turned = grouped.reshape(-1, weight.shape[0] // groups, *weight.shape[2:])
    return turned.flip(tuple(range(2, weight.dim())))


def convolution(layer: nn.Module) -> Callable[..., Tensor]:
    """The function of (input, weight, bias) of one of ``CONVOLUTIONS``."""
    if isinstance(layer, TransposedConv):
        return layer.function
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    own = Geometry.of(layer)
    if own is not None and own.has_gaps(layer.in_channels):
        return partial(_on_points, own, _CONVOLVE[len(layer.kernel_size) - 1], layer.groups)
    return partial(
        _CONVOLVE[len(layer.kernel_size) - 1],
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _on_points(
    own: Geometry, convolve: Callable[..., Tensor], groups: int, x: Tensor, w: Tensor, b: Tensor
) -> Tensor:
    return convolve(own.points(own.prepared(x)), w, b, groups=groups)


@dataclass(frozen=True)
class Geometry:
    """A layer as a convolution without padding of a prepared input; tuples have one each dimension.

    Attributes:
        kernel: size of the kernel.
        stride: distance of two windows.
        dilation: distance of two taps.
        pads: zeros before and after; below 0, what is cut off.
        spread: distance of two inputs, with zeros between them; 1 but for transposed convolutions.

    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    spread: tuple[int, ...]

    @classmethod
    def of(cls, layer: nn.Module) -> Geometry | None:
        """That of a convolution; None of other layers."""
        if not isinstance(layer, CONVOLUTIONS):
            return None
        kernel, dilation = tuple(layer.kernel_size), tuple(layer.dilation)
        spans = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        ones = (1,) * len(kernel)
        if isinstance(layer, TransposedConv):
            each = zip(spans, layer.padding, layer.output_padding, strict=True)
            pads = tuple((s - p, s - p + o) for s, p, o in each)
            return cls(kernel, ones, dilation, pads, tuple(layer.stride))
        padding = layer.padding
        if padding == "same":  # an odd zero comes after
            pads = tuple((s // 2, s - s // 2) for s in spans)
        else:
            around = (0,) * len(kernel) if padding == "valid" else padding
            pads = tuple((int(p), int(p)) for p in around)
        return cls(kernel, tuple(layer.stride), dilation, pads, ones)

    @property
    def even(self) -> bool:
        """Whether the padding is the same on both sides, and nothing else has to be prepared."""
        return max(self.spread) == 1 and all(a == b >= 0 for a, b in self.pads)

    def prepared(self, x: Tensor) -> Tensor:
        """The input (N, C, ...) with its zeros."""
        if max(self.spread) > 1:
            sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], self.spread, strict=True)]
            wide = x.new_zeros(*x.shape[:2], *sizes)
            every = [slice(None, None, s) for s in self.spread]
            wide[(slice(None), slice(None), *every)] = x
            x = wide
        return F.pad(x, [p for pair in reversed(self.pads) for p in pair])

    def has_gaps(self, channels: int) -> bool:
        """Whether this is to be computed on the inputs that it reads alone, see :meth:`points`.

        torch 2.15 on AVX2 writes outside of its memory in the gradient of the weight of a kernel of
        one tap that leaves inputs out, of fewer than 8 channels that come last in memory.
        """
        return max(self.kernel) == 1 < max(self.stride) and channels < 8

    def points(self, x: Tensor) -> Tensor:
        """Of a prepared input, what a kernel of one tap reads: its convolution has stride 1."""
        every = [slice(None, None, s) for s in self.stride]
        return x[(slice(None), slice(None), *every)]

    def image(self) -> Geometry:
        """That of a convolution of images of height 1, if it is one of lines."""
        if len(self.kernel) != 1:
            return self
        return Geometry(
            (1, *self.kernel),
            (1, *self.stride),
            (1, *self.dilation),
            ((0, 0), *self.pads),
            (1, *self.spread),
        )
