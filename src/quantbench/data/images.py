"""Named image sets and files; every byte is checked before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantbench.data import image_sets
from quantbench.data.manifest import table, verified


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images.

    Attributes:
        name: as given to :func:`images`.
        x: uint8 (N, H, W, 3), RGB; may be a read-only memory map.
        y: int64 (N,), or a class for every pixel, uint8 (N, H, W); see
            :mod:`quantbench.data.masks`.
        digest: sha256 of the bytes of ``x`` and ``y``.

    """

    name: str
    x: np.ndarray
    y: np.ndarray
    digest: str


def images(name: str) -> Images:
    """Read a named set; see :data:`quantbench.data.image_sets.SETS` for the names.

    Raises:
        BadInput: no such name.
        DataMissing: its files are not here.
        DataCorrupt: they are here and are not what was published.

    """
    return Images(name, *image_sets.read(name))


def file(name: str) -> Path:
    """Checked path of any known file, such as ``text/squad_dev-v1.1.json.gz``, in either tier.

    Raises:
        DataMissing: it is not here.
        DataCorrupt: its digest differs.

    """
    return verified(f"embedded/{name}" if f"embedded/{name}" in table() else name)
