"""Decoders: from published files to uint8 RGB (N, H, W, 3) and int64 labels (N,)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from quantbench.data import mosaic
from quantbench.data.archives import members
from quantbench.errors import DataCorrupt, DataMissing

Arrays = tuple[np.ndarray, np.ndarray]


def mosaics(folder: Path, grid: tuple[int, int], count: int, name: str) -> Arrays:
    """Mosaics ``000.webp`` ... and ``labels.npy``, in order.

    Args:
        folder: where they are.
        grid: rows and columns of tiles in a mosaic.
        count: how many mosaics.
        name: of the set, for the error when one is missing.

    """
    parts = []
    for i in range(count):
        path = folder / f"{i:03d}.webp"
        if not path.is_file():
            raise DataMissing(f"{name} ({path.name})", f"quantbench data fetch {name}")
        parts.append(mosaic.split(picture(path.read_bytes(), str(path)), grid, str(path)))
    return np.concatenate(parts), np.load(folder / "labels.npy", allow_pickle=False).astype(
        np.int64
    )


def tar(path: Path, labels: Path, size: int = 224, *, floor: bool = False) -> Arrays:
    """Images of a .tar, centre-cropped, in the order of a CSV with columns file and label."""
    rows, files = _listed(labels), dict(members(path))
    if absent := [name for name, _ in rows if name not in files]:
        raise DataCorrupt(f"{path} does not hold {absent[0]!r}, which {labels.name} lists")
    out = np.empty((len(rows), size, size, 3), np.uint8)
    for i, (name, _) in enumerate(rows):
        out[i] = centre(picture(files[name], f"{path}:{name}"), size, floor=floor)
    return out, np.array([label for _, label in rows], np.int64)


def _listed(labels: Path) -> list[tuple[str, int]]:
    """Files and labels of a CSV."""
    try:
        with labels.open(newline="", encoding="utf-8") as file:
            return [(row["file"], int(row["label"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error) as e:
        raise DataCorrupt(f"{labels} is no list of files and labels: {e}") from e


def picture(content: bytes, where: str) -> np.ndarray:
    """One encoded image as (H, W, 3) uint8 RGB.

    Raises:
        DataCorrupt: truncated, or no image at all.

    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as e:  # Pillow's errors for broken files
        raise DataCorrupt(f"{where} is not a whole image: {e}") from e


def centre(x: np.ndarray, size: int, *, floor: bool = False) -> np.ndarray:
    """Centre crop of (H, W, 3); offsets are rounded half to even, as torchvision does, or down."""
    h, w = x.shape[:2]
    if h < size or w < size:
        raise DataCorrupt(f"an image of {h}x{w} has no centre of {size}x{size}")
    top, left = ((n - size) // 2 if floor else round((n - size) / 2) for n in (h, w))
    return x[top : top + size, left : left + size]


def image_folder(
    folder: Path, synsets: Sequence[str] = (), classes: int = 1000
) -> tuple[list[Path], np.ndarray]:
    """Files and labels of an ImageNet folder ``<synset>/<file>``; labels count the sorted synsets.

    Args:
        folder: such as ``imagenet/val``.
        synsets: all class names, sorted, when the folder may hold only some of them.
        classes: how many class folders there must be when ``synsets`` is empty.

    """
    found = sorted(p.name for p in folder.iterdir() if p.is_dir())
    names = list(synsets) or found
    if not synsets and len(found) != classes:
        raise DataCorrupt(
            f"{folder} has {len(found)} class folders, not {classes}: labels cannot be told"
        )
    if unknown := set(found) - set(names):
        raise DataCorrupt(
            f"{folder} has folders that are no ImageNet class, such as {min(unknown)}"
        )
    files = [(p, names.index(name)) for name in found for p in _images(folder / name)]
    return [p for p, _ in files], np.array([label for _, label in files], np.int64)


def _images(folder: Path) -> Iterable[Path]:
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in {".jpeg", ".jpg", ".png", ".webp"}
    )


def resized(paths: Sequence[Path], out: np.ndarray, size: int = 224, short: int = 256) -> None:
    """Fill ``out`` (N, size, size, 3): short side to ``short``, then a centre crop."""
    for i, path in enumerate(paths):
        out[i] = centre(shrink(path, short), size)


def opened(path: Path) -> Image.Image:
    """An image file, decoded, in RGB.

    Raises:
        DataCorrupt: truncated, or no image at all.

    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as e:
        raise DataCorrupt(f"{path} is not a whole image: {e}") from e


def shrink(path: Path, short: int) -> np.ndarray:
    """Decode a file; its short side becomes ``short`` as by torchvision's Resize (bilinear)."""
    rgb = opened(path)
    w, h = rgb.size
    scale = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    return np.asarray(rgb.resize(scale, Image.Resampling.BILINEAR))


def cifar_batches(root: Path, *, train: bool) -> Arrays:
    """Read CIFAR-10 from torchvision's folder ``cifar-10-batches-py`` below ``root``.

    torchvision compares the MD5 of every batch with the published one before it unpickles.

    Raises:
        DataMissing: no such folder.
        DataCorrupt: a batch is missing or differs.

    """
    folder = root / "cifar-10-batches-py"
    if not folder.is_dir():  # said before torchvision is imported, which takes seconds
        raise DataMissing("cifar10/test", "quantbench data fetch cifar10/test")
    from torchvision.datasets import CIFAR10

    try:
        batch = CIFAR10(str(root), train=train, download=False)
    except (RuntimeError, OSError) as e:
        raise DataCorrupt(f"{folder} is not CIFAR-10 as published: {e}") from e
    return batch.data, np.array(batch.targets, np.int64)
