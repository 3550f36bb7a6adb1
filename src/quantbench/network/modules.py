"""Operations without weights, as modules.

A residual add or a concatenation is then a name in the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
