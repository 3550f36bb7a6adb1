"""Procedural scenes, 96x96 RGB, with boxes: one to four shapes before texture and clutter."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from quantbench.data.procedural.shapes import CLASSES

SIZE = 96

STEP = 32  # pixels are multiples of this, so that lossless files stay small

SPLITS = {"train": (11, 3072), "calib": (12, 128), "test": (13, 256)}  # seed and number of scenes

NAMES = {0: "disc", 1: "ring", 2: "triangle", 3: "square", 6: "cross"}  # of the shapes' classes

_APART = 0.15  # largest share of a smaller box that another one may cover

_TIME = (2020, 1, 1, 0, 0, 0)  # of the files in the archive: the same bytes whenever it is made


@dataclass(frozen=True, eq=False)
class Scene:
    """One image and what is in it.

    Attributes:
        image: uint8 (96, 96, 3).
        boxes: (n, 4) left, top, right and bottom edge in pixels.
        labels: (n,) from 1, in the order of ``NAMES``.
        areas: (n,) visible pixels of each.

    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray


def render(split: str) -> list[Scene]:
    """All scenes of ``train``, ``calib`` or ``test``."""
    seed, n = SPLITS[split]
    return [_scene(np.random.default_rng([seed, i])) for i in range(n)]


def coco(scenes: list[Scene]) -> dict[str, Any]:
    """Annotations in the layout of COCO's ``instances`` files."""
    images = [
        {"id": i, "file_name": f"{i:06d}.webp", "width": SIZE, "height": SIZE}
        for i in range(len(scenes))
    ]
    found: list[dict[str, Any]] = []
    for i, scene in enumerate(scenes):
        for (left, top, right, bottom), label, area in zip(
            scene.boxes, scene.labels, scene.areas, strict=True
        ):
            box = [float(v) for v in (left, top, right - left, bottom - top)]
            row = {"id": len(found) + 1, "image_id": i, "category_id": int(label), "bbox": box}
            found.append({**row, "area": float(area), "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES.values(), 1)]
    return {"images": images, "annotations": found, "categories": categories}


def write(split: str, path: Path) -> None:
    """A split as one archive: ``annotations.json``, and ``images`` as lossless WebP."""
    scenes = render(split)
    with zipfile.ZipFile(path, "w") as archive:
        text = json.dumps(coco(scenes), separators=(",", ":"))
        archive.writestr(zipfile.ZipInfo("annotations.json", _TIME), text, zipfile.ZIP_DEFLATED, 9)
        for i, scene in enumerate(scenes):
            picture = io.BytesIO()
            Image.fromarray(scene.image).save(picture, "WEBP", lossless=True, quality=80, method=4)
            archive.writestr(zipfile.ZipInfo(f"images/{i:06d}.webp", _TIME), picture.getvalue())


def _scene(rng: np.random.Generator) -> Scene:
    """Background, clutter, then objects; a later one may hide a little of an earlier one."""
    image = _texture(rng, rng.uniform(0, 255, 3))
    for _ in range(4):
        image = _over(image, _bar(rng), _texture(rng, rng.uniform(0, 255, 3)))
    ground = image.mean((0, 1))
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    masks: list[np.ndarray] = []
    for _ in range(int(rng.integers(1, 5))):
        number = int(rng.integers(len(NAMES)))
        inside = _alpha(CLASSES[list(NAMES)[number]](*_frame(rng)) * 8.0)
        box = _box(inside > 0.5)
        if box is None or any(_covers(box, other) for other in boxes):
            continue
        colour = (ground + rng.uniform(48, 207, 3)) % 255
        image = _over(image, inside, _texture(rng, colour))
        masks = [m & (inside <= 0.5) for m in masks]
        boxes, labels, masks = [*boxes, box], [*labels, number + 1], [*masks, inside > 0.5]
    noisy = image + rng.normal(0.0, rng.uniform(0.0, 4.0), image.shape)
    pixels = (np.clip(np.round(noisy / STEP), 0, 255 // STEP) * STEP).astype(np.uint8)
    areas = np.array([m.sum() for m in masks], np.float32)
    return Scene(
        pixels, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), areas
    )


def _frame(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (96, 96) in a rotated, stretched and shifted frame; its unit is a radius."""
    radius = rng.uniform(8.0, 22.0)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    x, y = x - rng.uniform(radius, SIZE - radius), y - rng.uniform(radius, SIZE - radius)
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.4)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return u / (radius * stretch**0.5), v * stretch**0.5 / radius


def _bar(rng: np.random.Generator) -> np.ndarray:
    """Coverage by a bar somewhere."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    x, y, angle = x - rng.uniform(0, SIZE), y - rng.uniform(0, SIZE), rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return _alpha(np.maximum(np.abs(u) - rng.uniform(4, 30), np.abs(v) - rng.uniform(1, 5)))


def _alpha(distance: np.ndarray) -> np.ndarray:
    """Coverage of a pixel by the inside of a signed distance in pixels."""
    return np.asarray(np.clip(0.5 - distance, 0.0, 1.0))


def _over(below: np.ndarray, alpha: np.ndarray, above: np.ndarray) -> np.ndarray:
    return np.asarray(below + alpha[..., None] * (above - below))


def _texture(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Stripes around a colour: float (96, 96, 3)."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(6.0, 40.0), rng.uniform(0, 2 * np.pi)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period + phase)
    return np.asarray(colour + wave[..., None] * rng.normal(0, 25, 3))


def _box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Edges of what a mask holds; ``None`` for nothing worth finding."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 8 or len(columns) < 8:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _covers(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two boxes share too much of the smaller one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) > _APART * smaller
