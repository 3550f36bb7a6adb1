"""From pixels to what a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantbench.errors import BadInput

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preprocess:
    """``(x / scale - mean) / std`` per channel, channels reversed first when ``bgr``.

    Attributes:
        mean: three values, in the channel order of the network.
        std: the same.
        scale: 255 for networks trained on 0..1, 1 for those trained on 0..255.
        bgr: the network takes blue first.

    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 255.0
    bgr: bool = False

    def __call__(self, x: np.ndarray) -> torch.Tensor:
        """Uint8 (N, H, W, 3) to float32 (N, 3, H, W).

        Raises:
            BadInput: another shape or type.

        """
        import torch

        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] != 3:
            raise BadInput(f"images are uint8 (N, H, W, 3), these are {x.dtype} {x.shape}")
        channels = x[..., ::-1] if self.bgr else x
        chw = np.ascontiguousarray(channels.transpose(0, 3, 1, 2), dtype=np.float32)
        mean = torch.tensor(self.mean, dtype=torch.float32).view(1, 3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32).view(1, 3, 1, 1)
        return (torch.from_numpy(chw) / self.scale - mean) / std
