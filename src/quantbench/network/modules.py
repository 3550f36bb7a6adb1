"""Operations without weights, as modules.

A residual add or a concatenation is then a name in the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NO_CEILING = 1e30  # stays finite when it is scaled; infinite weights and buffers are refused


class Operand(nn.Identity):
    """Where a tensor goes into a softmax or a product of two activations, not into a layer."""


class Add(nn.Module):
    """Elementwise sum of two tensors of one shape."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``a + b``."""
        return a + b


class Concat(nn.Module):
    """Concatenation of (N, C_i, H, W) tensors along the channels."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Return an (N, sum of C_i, H, W) tensor."""
        return torch.cat(parts, dim=1)


class SubsamplePad(nn.Module):
    """Shortcut without parameters: every second pixel, new channels filled with zeros.

    Source: He et al. 2016, "Deep residual learning", section 4.2, option A. The zeros are split
    evenly before and after the old channels.

    Args:
        new_channels: how many channels are added; even.

    """

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.pad = nn.ConstantPad3d((0, 0, 0, 0, new_channels // 2, new_channels // 2), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + new_channels, ceil(H / 2), ceil(W / 2))."""
        padded: Tensor = self.pad(x[:, :, ::2, ::2])
        return padded


class ChannelClamp(nn.Module):
    """min(max(x, low), high) with one bound of each kind per channel (dimension 1).

    ReLU6 after a layer whose channels were divided by s is min(max(x, 0), 6 / s): only so does
    equalization leave the full-precision network as it was.

    Attributes:
        low: (channels,) lower bounds.
        high: (channels,) upper bounds, ``NO_CEILING`` where there is none.

    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", low.detach().clone())
        self.register_buffer("high", high.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Clamp an (N, C, ...) tensor."""
        return self.bounds(x)

    @property
    def bounds(self) -> Bounds:
        """Its function, without the module."""
        return Bounds(self.low, self.high)


@dataclass(frozen=True, eq=False)
class Bounds:
    """The function of a ``ChannelClamp`` as a value.

    Attributes:
        low: (channels,) lower bounds.
        high: (channels,) upper bounds.

    """

    low: Tensor
    high: Tensor

    @classmethod
    def alike(cls, limits: tuple[float, float]) -> Bounds:
        """The same bounds for all channels."""
        return cls(*(torch.tensor([v]).clamp(-NO_CEILING, NO_CEILING) for v in limits))

    def __call__(self, x: Tensor) -> Tensor:
        """Clamp an (N, C, ...) tensor."""
        found: Tensor = _Clamp.apply(x, *self.like(x))  # type: ignore[no-untyped-call]
        return found

    def like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both bounds as they broadcast over an (N, C, ...) tensor."""
        shape = (-1,) + (1,) * (x.dim() - 2)
        low, high = (bound.reshape(shape).to(x.device) for bound in (self.low, self.high))
        return low, high


class _Clamp(torch.autograd.Function):
    """Clamping to bounds that are not learnt: one pass back, where autograd makes eight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        clamped = torch.clamp(x, low, high)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(clamped != x)
        return clamped

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (outside,) = ctx.saved_tensors
        return grads[0].masked_fill(outside, 0), None, None
