"""Many small images in one lossless picture: smaller and quicker to read than a file each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from quantbench.errors import DataCorrupt


def write(x: np.ndarray, path: Path, grid: tuple[int, int]) -> None:
    """Write uint8 images (rows * columns, S, S, 3) as lossless WebP."""
    rows, columns = grid
    side = x.shape[1]
    tiles = x.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    picture = Image.fromarray(tiles.reshape(rows * side, columns * side, 3))
    picture.save(path, "WEBP", lossless=True, quality=80, method=4)


def split(picture: np.ndarray, grid: tuple[int, int], where: str, side: int = 32) -> np.ndarray:
    """Cut a decoded mosaic (rows * S, columns * S, 3) into images (rows * columns, S, S, 3).

    Raises:
        DataCorrupt: another size.

    """
    rows, columns = grid
    if picture.shape != (rows * side, columns * side, 3):
        raise DataCorrupt(
            f"{where} is {picture.shape}, not a mosaic of ({rows * side}, {columns * side}, 3)"
        )
    tiles = picture.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(rows * columns, side, side, 3)
