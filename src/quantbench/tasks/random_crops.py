"""Random crops of image files, as networks are trained on ImageNet."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from quantbench.data.readers import opened

AREA = (0.08, 1.0)  # share of the image that a crop covers

ASPECT = (3 / 4, 4 / 3)  # width over height

TRIES = 10


def random_crops(paths: Sequence[Path], size: int, rng: torch.Generator) -> np.ndarray:
    """A crop of every file, brought to ``size`` bilinearly; half of them mirrored.

    Area and shape are drawn as in Szegedy et al. 2015, section 6: a share of the area uniformly,
    the aspect ratio uniformly in its logarithm. Draws come before any file is read, so that threads
    change nothing.

    Args:
        paths: (N,) image files.
        size: of the result.
        rng: on the CPU.

    Returns:
        uint8 (N, size, size, 3), RGB.

    Raises:
        DataCorrupt: a file is no whole image.

    """
    drawn = torch.rand((len(paths), TRIES, 4), generator=rng, dtype=torch.float64).numpy()
    mirrored = torch.randint(2, (len(paths),), generator=rng).numpy().astype(bool)
    out = np.empty((len(paths), size, size, 3), np.uint8)

    def fill(i: int) -> None:
        out[i] = _crop(paths[i], drawn[i], size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter lock
        list(pool.map(fill, range(len(paths))))
    out[mirrored] = out[mirrored, :, ::-1]
    return out


def _crop(path: Path, draws: np.ndarray, size: int) -> np.ndarray:
    rgb = opened(path)
    box = crop_box(*rgb.size, draws)
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR, box=box))


def crop_box(width: int, height: int, draws: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the first draw that fits, else the middle as far as it fits.

    Args:
        width: of the image.
        height: of the image.
        draws: (tries, 4) in 0..1: share of the area, aspect ratio, left, top.

    """
    low, high = (math.log(ratio) for ratio in ASPECT)
    for share, aspect, left, top in draws:
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * share)
        ratio = math.exp(low + (high - low) * aspect)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    w = min(width, round(height * ASPECT[1]))
    h = min(height, round(width / ASPECT[0]))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h
