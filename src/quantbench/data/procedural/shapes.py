"""Procedural images, 32x32 RGB: ten shapes with texture, clutter, occlusion and noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIZE = 32

STEP = 8  # pixels are multiples of this, so that lossless files stay small

SPLITS = {"train": (0, 20480), "calib": (1, 1024), "test": (2, 10240)}  # seed and number of images

# Of what is rendered wherever it is needed, and not stored. The pixels are floats rounded to a
# multiple of STEP: a sine that differs in its last bit tips one of them once in a million renders.
DIGESTS = {
    "train": "672f0e28bfe5ab686ac464767d8cd12130e6ee9f8498ac019a4d969d70602328",
    "test": "5c72227ac4c34ca056a78a67e5ba05e914aa51c100892b5712a683e4c4d0f221",
}

OCCLUDED = 0.6  # share of the images with a bar before the shape

_BATCH = 512

Field = np.ndarray

Shape = Callable[[Field, Field], Field]


def render(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of a split and their classes.

    Args:
        split: ``train``, ``calib`` or ``test``.

    Returns:
        uint8 (N, 32, 32, 3) and int64 (N,), the classes in turn.

    """
    seed, n = SPLITS[split]
    parts = [
        _batch(np.random.default_rng([seed, i]), np.arange(i, i + _BATCH) % 10)
        for i in range(0, n, _BATCH)
    ]
    return np.concatenate(parts), np.arange(n, dtype=np.int64) % 10


def _batch(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Background, clutter, the shape, an occluding bar, light, noise; uint8 (B, 32, 32, 3)."""
    n = len(labels)
    ground = rng.uniform(0, 255, (n, 1, 1, 3))
    image = _texture(rng, ground)
    for _ in range(3):  # clutter behind the shape
        image = _over(image, _alpha(_bar(rng, n)), _texture(rng, rng.uniform(0, 255, (n, 1, 1, 3))))
    u, v = _frame(rng, n, low=6.5, high=11.0, jitter=5.0)
    inside = np.stack([CLASSES[label](a, b) for label, a, b in zip(labels, u, v, strict=True)])
    # every channel at least 32 away from the ground
    figure = (ground + rng.uniform(32, 223, (n, 1, 1, 3))) % 255
    image = _over(image, _alpha(inside * 8.0), _texture(rng, figure))
    hidden = _alpha(_bar(rng, n)) * (rng.random((n, 1, 1)) < OCCLUDED)
    image = _over(image, hidden, _texture(rng, rng.uniform(0, 255, (n, 1, 1, 3))))
    noise = rng.normal(0.0, 1.0, (n, SIZE, SIZE, 3)) * rng.uniform(2.0, 12.0, (n, 1, 1, 1))
    return (np.clip(np.round((image + noise) / STEP), 0, 255 // STEP) * STEP).astype(np.uint8)


def _frame(
    rng: np.random.Generator, n: int, low: float, high: float, jitter: float
) -> tuple[Field, Field]:
    """Coordinates (n, 32, 32) in a rotated, stretched and shifted frame of the shape's radius."""
    one = (n, 1, 1)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    x, y = x - rng.uniform(-jitter, jitter, one), y - rng.uniform(-jitter, jitter, one)
    angle, radius, stretch = (
        rng.uniform(0, 2 * np.pi, one),
        rng.uniform(low, high, one),
        rng.uniform(0.8, 1.25, one),
    )
    return (
        (np.cos(angle) * x + np.sin(angle) * y) / (radius * stretch),
        (np.cos(angle) * y - np.sin(angle) * x) / radius * stretch,
    )


def _bar(rng: np.random.Generator, n: int) -> Field:
    """Signed distance, in pixels, of a short bar somewhere."""
    u, v = _frame(rng, n, low=1.0, high=1.6, jitter=16.0)
    length = rng.uniform(1.0, 6.0, (n, 1, 1))
    return np.asarray(np.maximum(np.abs(u) - length, np.abs(v) - 1.0) * 1.3)


def _alpha(distance: Field) -> Field:
    """Coverage of a pixel by the inside of a signed distance in pixels."""
    return np.asarray(np.clip(0.5 - distance, 0.0, 1.0))


def _over(below: np.ndarray, alpha: Field, above: np.ndarray) -> np.ndarray:
    return np.asarray(below + alpha[..., None] * (above - below))


def _texture(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Stripes around a colour (n, 1, 1, 3), strong or weak: float (n, 32, 32, 3)."""
    one = (len(colour), 1, 1)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    angle, period, phase = (
        rng.uniform(0, np.pi, one),
        rng.uniform(3.0, 12.0, one),
        rng.uniform(0, 2 * np.pi, one),
    )
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period + phase)
    return np.asarray(colour + wave[..., None] * rng.normal(0, 22, colour.shape))


def _polygon(u: Field, v: Field, corners: int) -> Field:
    """Regular polygon of circumradius 1: distance to the nearest side."""
    wedge = 2 * np.pi / corners
    angle = np.mod(np.arctan2(v, u), wedge) - wedge / 2
    return np.asarray(np.hypot(u, v) * np.cos(angle) - np.cos(wedge / 2))


def _cross(u: Field, v: Field) -> Field:
    a, b = np.abs(u), np.abs(v)
    return np.asarray(np.minimum(np.maximum(a - 1.0, b - 0.33), np.maximum(a - 0.33, b - 1.0)))


def _star(u: Field, v: Field) -> Field:
    return np.asarray(np.hypot(u, v) - 0.75 - 0.3 * np.cos(5 * np.arctan2(v, u)))


CLASSES: tuple[Shape, ...] = (
    lambda u, v: np.hypot(u, v) - 0.9,  # disc
    lambda u, v: np.abs(np.hypot(u, v) - 0.72) - 0.24,  # ring
    lambda u, v: _polygon(u, v, 3),  # triangle
    lambda u, v: _polygon(u, v, 4),  # square
    lambda u, v: _polygon(u, v, 5),  # pentagon
    _star,
    _cross,
    lambda u, v: np.maximum(np.hypot(u, v) - 1.0, 0.75 - np.hypot(u - 0.55, v)),  # crescent
    lambda u, v: np.maximum(np.hypot(u, v) - 1.0, u - 0.1),  # half disc
    lambda u, v: np.maximum(np.abs(np.abs(v) - 0.55) - 0.27, np.abs(u) - 0.95),  # two bars
)
