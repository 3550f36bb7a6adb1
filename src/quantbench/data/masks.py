"""Images with a class for every pixel, on canvases of one size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from quantbench.data.archives import members, require_inside
from quantbench.data.readers import Arrays, picture
from quantbench.errors import DataCorrupt, DataMissing

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
    files = dict(members(path))
    stems = [Path(name).stem for name in sorted(files) if name.startswith(_VOC_IMAGES)]
    pairs = (
        (picture(files[f"{_VOC_IMAGES}{stem}.jpg"], stem), _mask(files, f"{_VOC_MASKS}{stem}.png"))
        for stem in stems
    )
    return _canvases(pairs, len(stems), path)


def devkit(folder: Path, part: str, canvas: Callable[[tuple[int, ...]], np.ndarray]) -> Arrays:
    """Images of VOC 2012 as its development kit has them, in the order of the kit's list.

    Args:
        folder: such as ``VOCdevkit/VOC2012``.
        part: the list in ``ImageSets/Segmentation``, such as ``val``.
        canvas: makes the array of images, zeros uint8 of a shape: they may not fit in memory.

    Returns:
        As :func:`voc`.

    Raises:
        DataMissing: there is no such list.
        DataCorrupt: an image of it is missing, or has no mask of its size.

    """
    listed = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
    if not listed.is_file():
        parent = folder.parent
        raise DataMissing(f"voc/{part}", f"ln -s <your VOCdevkit, with {folder.name}> {parent}")
    stems = listed.read_text(encoding="utf-8").split()

    def content(name: str) -> dict[str, bytes]:
        require_inside(name, f"{listed}: the image or mask")
        path = folder / name
        return {name: path.read_bytes()} if path.is_file() else {}

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for stem in stems:
            image, mask = f"{_VOC_IMAGES}{stem}.jpg", f"{_VOC_MASKS}{stem}.png"
            yield picture(_named(content(image), image), stem), _mask(content(mask), mask)

    return _canvases(pairs(), len(stems), listed, canvas)


def coco(images: Path, masks: Path) -> Arrays:
    """Images of COCO that have masks, their longer side scaled to 513 pixels, as :func:`voc`.

    Images are scaled bilinearly, masks to the nearest pixel. Images here have 416 pixels, and masks
    the original size, from which the scaled size is computed.
    """
    files, targets = dict(members(images)), dict(members(masks))

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


def _zeros(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def _canvases(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
    count: int,
    path: Path,
    canvas: Callable[[tuple[int, ...]], np.ndarray] = _zeros,
) -> Arrays:
    x = canvas((count, SIDE, SIDE, 3))
    y = np.full((count, SIDE, SIDE), OUTSIDE, np.uint8)
    for i, (image, mask) in enumerate(pairs):
        h, w = mask.shape
        if image.shape[:2] != mask.shape or max(h, w) > SIDE:
            raise DataCorrupt(f"{path}: image {i} of {image.shape} has a mask of {mask.shape}")
        if wrong := set(np.unique(mask).tolist()) - {*range(CLASSES), VOID}:
            raise DataCorrupt(f"{path}: mask {i} holds {min(wrong)}, which is no class of VOC")
        x[i, :h, :w], y[i, :h, :w] = image, mask
    return x, y


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
