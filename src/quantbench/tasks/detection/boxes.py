"""From an image to a square, and from a one-stage detector's maps to boxes in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantbench.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CANDIDATES = 1000  # the best of an image that non-maximum suppression looks at


@dataclass(frozen=True)
class Placed:
    """Where an image lies in its square: left, top, width and height, and its own size."""

    left: int
    top: int
    width: int
    height: int
    image: tuple[int, int]

    def back(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of corners in the square as corners in the image, cut off at its edges."""
        import torch

        width, height = self.image
        scale = torch.tensor([width / self.width, height / self.height] * 2)
        found = (boxes - torch.tensor([self.left, self.top] * 2)) * scale
        return found.clamp(torch.zeros(4), torch.tensor([width, height] * 2).float())


def letterbox(image: np.ndarray, size: int) -> tuple[np.ndarray, Placed]:
    """An image (H, W, 3) uint8 in the middle of a black square, its longer side at full length.

    Returns:
        the square (size, size, 3), and where the image lies in it.

    """
    from PIL import Image

    h, w = image.shape[:2]
    scale = size / max(h, w)
    width, height = round(w * scale), round(h * scale)
    if min(width, height) < 1:
        raise BadInput(f"an image of {w}x{h} pixels has no width or height left at {size} pixels")
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    left, top = (size - width) // 2, (size - height) // 2
    square = np.zeros((size, size, 3), np.uint8)
    square[top : top + height, left : left + width] = np.asarray(small)
    return square, Placed(left, top, width, height, (w, h))


def distances(logits: Tensor) -> Tensor:
    """Expected distances (..., sides), in strides, of logits (..., sides, bins) of 0, 1, 2, ...

    Li et al. 2020, equation 4: y = sum P(y_i) y_i.
    """
    import torch

    bins = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return logits.softmax(-1) @ bins


def decode(maps: Sequence[Tensor], strides: Sequence[int], classes: int) -> tuple[Tensor, Tensor]:
    """Class scores and boxes of one image's maps.

    Args:
        maps: of each stride, (classes + sides * bins, H, W) logits; sides are left, top, right and
            bottom as seen from a position's centre.
        strides: pixels to a position.
        classes: number of them.

    Returns:
        scores (positions, classes) in 0..1, and corners (positions, 4) in pixels of the input.

    """
    import torch

    scores, boxes = [], []
    for logits, stride in zip(maps, strides, strict=True):
        rows = logits.flatten(1).mT
        h, w = logits.shape[1:]
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centre = (torch.stack([x, y], -1).reshape(-1, 2).to(logits.device) + 0.5) * stride
        reach = distances(rows[:, classes:].unflatten(1, (4, -1))) * stride  # type: ignore[no-untyped-call]
        boxes.append(torch.cat([centre - reach[:, :2], centre + reach[:, 2:]], 1))
        scores.append(rows[:, :classes].sigmoid())
    return torch.cat(scores), torch.cat(boxes)


def suppress(
    scores: Tensor, boxes: Tensor, *, least: float, overlap: float, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Non-maximum suppression within each class.

    Args:
        scores: (positions, classes).
        boxes: corners (positions, 4).
        least: scores up to this are no detections.
        overlap: intersection over union above which the lower of two scores goes.
        keep: detections at most.

    Returns:
        corners (K, 4), scores (K,) in descending order, and classes (K,).

    """
    from torchvision.ops import batched_nms

    position, label = (scores > least).nonzero(as_tuple=True)
    score, box = scores[position, label], boxes[position]
    if len(score) > CANDIDATES:
        score, best = score.topk(CANDIDATES)
        box, label = box[best], label[best]
    kept = batched_nms(box, score, label, overlap)[:keep]
    return box[kept], score[kept], label[kept]
