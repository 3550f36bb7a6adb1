"""Named image sets, checkpoints and preprocessing; every byte is checked before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantbench.data import image_sets
from quantbench.data.manifest import table, verified
from quantbench.errors import BadInput, DataCorrupt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images.

    Attributes:
        name: as given to :func:`images`.
        x: uint8 (N, H, W, 3), RGB; may be a read-only memory map.
        y: int64 (N,).
        digest: sha256 of the bytes of ``x`` and ``y``.

    """

    name: str
    x: np.ndarray
    y: np.ndarray
    digest: str


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
        chw = np.ascontiguousarray(
            (x[..., ::-1] if self.bgr else x).transpose(0, 3, 1, 2), dtype=np.float32
        )
        mean, std = (
            torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (self.mean, self.std)
        )
        return (torch.from_numpy(chw) / self.scale - mean) / std


def images(name: str) -> Images:
    """Read a named set; see :data:`SETS` for the names.

    Raises:
        BadInput: no such name.
        DataMissing: its files are not here.
        DataCorrupt: they are here and are not what was published.

    """
    return Images(name, *image_sets.read(name))


def checkpoint(name: str) -> dict[str, torch.Tensor]:
    """Read a state dict by name, such as ``cifar10_resnet20_akamaster``; all weights as float32.

    Raises:
        DataMissing: it is not here.
        DataCorrupt: its digest differs, or it is no safetensors file.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = file(f"checkpoints/{name}.safetensors")
    try:
        tensors = load_file(path)
    except SafetensorError as e:
        raise DataCorrupt(f"{path} is not a safetensors file: {e}") from e
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def file(name: str) -> Path:
    """Checked path of any known file, such as ``text/squad_dev-v1.1.json.gz``, in either tier.

    Raises:
        DataMissing: it is not here.
        DataCorrupt: its digest differs.

    """
    return verified(f"embedded/{name}" if f"embedded/{name}" in table() else name)


def balanced_subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices (n,) of a class-balanced draw: every class once in random order, then every class again, and so on.

    The first m indices of a draw of n are the draw of m: calibration sets of different sizes are
    nested.

    Args:
        y: labels (N,).
        n: how many.
        seed: of ``numpy.random.default_rng``; the list depends on nothing else.

    Raises:
        BadInput: n is not within 1..N.

    """
    if not 1 <= n <= len(y):
        raise BadInput(f"cannot draw {n} calibration images from {len(y)}")
    rng = np.random.default_rng(seed)
    turns = np.empty(len(y), np.int64)  # when an image's turn comes within its class
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        turns[members] = np.arange(len(members))
    return np.lexsort((rng.permutation(len(y)), turns))[:n]
