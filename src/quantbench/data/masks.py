"""Images with a class for every pixel, on canvases of one size."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from quantbench.data.readers import Arrays, picture
from quantbench.errors import DataCorrupt

SIDE = 513  # rows and columns of a canvas: what DeepLab was trained on

CLASSES = 21  # of Pascal VOC, background first

VOID = 255  # the class of a pixel that does not count

OUTSIDE = 254  # of a pixel below or to the right of the image

_VOC_IMAGES, _VOC_MASKS = "JPEGImages/", "SegmentationClass/"


def voc(path: Path) -> Arrays:
    """Images of VOC as they are, in the order of their names.

    Returns:
        uint8 (N, 513, 513, 3), 0 outside of the image, and the classes uint8 (N, 513, 513): 0 to
        20, ``VOID`` or ``OUTSIDE``.

    Raises:
        DataCorrupt: an image without a mask of its size, or one that no canvas holds.

    """
    files = _members(path)
    stems = [Path(name).stem for name in sorted(files) if name.startswith(_VOC_IMAGES)]
    pairs = (
        (picture(files[f"{_VOC_IMAGES}{stem}.jpg"], stem), _mask(files, f"{_VOC_MASKS}{stem}.png"))
        for stem in stems
    )
    return _canvases(pairs, len(stems), path)


def coco(images: Path, masks: Path) -> Arrays:
    """Images of COCO that have masks, their longer side scaled to 513 pixels, as :func:`voc`.

    Images are scaled bilinearly, masks to the nearest pixel. Images here have 416 pixels, and masks
    the original size, from which the scaled size is computed.
    """
    files, targets = _members(images), _members(masks)

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for name in sorted(targets):
            mask = _mask(targets, name)
            scale = SIDE / max(mask.shape)
            h, w = (round(n * scale) for n in mask.shape)
            image = Image.fromarray(picture(_named(files, f"{Path(name).stem}.jpg"), name))
            scaled = image.resize((w, h), Image.Resampling.BILINEAR)
            classes = Image.fromarray(mask).resize((w, h), Image.Resampling.NEAREST)
            yield np.asarray(scaled), np.asarray(classes)

    return _canvases(pairs(), len(targets), masks)


def _canvases(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]], count: int, path: Path
) -> Arrays:  # fmt: skip
    x = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    y = np.full((count, SIDE, SIDE), OUTSIDE, np.uint8)
    for i, (image, mask) in enumerate(pairs):
        h, w = mask.shape
        if image.shape[:2] != mask.shape or max(h, w) > SIDE:
            raise DataCorrupt(f"{path}: image {i} of {image.shape} has a mask of {mask.shape}")
        if wrong := set(np.unique(mask).tolist()) - {*range(CLASSES), VOID}:
            raise DataCorrupt(f"{path}: mask {i} holds {min(wrong)}, which is no class of VOC")
        x[i, :h, :w], y[i, :h, :w] = image, mask
    return x, y


def _members(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path) as archive:
            opened = ((m.name, archive.extractfile(m)) for m in archive)
            return {name: content.read() for name, content in opened if content}
    except tarfile.TarError as e:
        raise DataCorrupt(f"{path} is not a whole archive: {e}") from e


def _named(files: dict[str, bytes], name: str) -> bytes:
    if name not in files:
        raise DataCorrupt(f"an image or mask {name} is not in its archive")
    return files[name]


def _mask(files: dict[str, bytes], name: str) -> np.ndarray:
    """(H, W) uint8 of an image of one channel, or of a palette."""
    try:
        with Image.open(io.BytesIO(_named(files, name))) as image:
            mask = np.array(image)
    except (OSError, ValueError, SyntaxError) as e:
        raise DataCorrupt(f"{name} is not a whole image: {e}") from e
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DataCorrupt(f"{name} is {mask.dtype} {mask.shape}, no mask of classes")
    return mask
