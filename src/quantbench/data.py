"""Named image sets, checkpoints and preprocessing; every byte is checked before it is used."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantbench import decoded, readers
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.files import CIFAR_GRID, MOSAICS, data_root, locate, table, verified

if TYPE_CHECKING:
    import torch

__all__ = ["SETS", "Images", "Preprocess", "balanced_subset", "checkpoint", "data_root", "file", "images"]


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
        chw = np.ascontiguousarray((x[..., ::-1] if self.bgr else x).transpose(0, 3, 1, 2), dtype=np.float32)
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (torch.from_numpy(chw) / self.scale - mean) / std


def _cifar_train() -> readers.Arrays:
    labels = verified("cifar10/train/labels.npy")
    x, y = readers.mosaics(labels.parent, CIFAR_GRID, MOSAICS, "cifar10/train")
    if (found := hashlib.sha256(x.tobytes()).hexdigest()) != table()["cifar10/train/*.webp"].decoded:
        raise DataCorrupt(f"the mosaics in {labels.parent} decode to sha256 {found}: one of them was changed")
    return x, y


def _tar(stem: str) -> readers.Arrays:
    return readers.tar(verified(f"imagenet/{stem}.tar"), verified(f"imagenet/{stem}.csv"))


def _imagenet(part: str, per_class: int = 0, short: int = 256, size: int = 224) -> readers.Arrays:
    """An ImageNet folder as evaluation sees it; ``per_class`` keeps the first files of each class only."""
    folder = locate(f"imagenet/{part}")
    if not folder.is_dir():
        raise DataMissing(f"imagenet/{part}", f"ln -s <your ILSVRC2012 {part} folder, one folder a class> {folder}")
    paths, y = readers.image_folder(folder)
    if per_class:
        chosen = np.concatenate([np.flatnonzero(y == label)[:per_class] for label in np.unique(y)])
        paths, y = [paths[i] for i in chosen], y[chosen]
    x = decoded.scratch(f"imagenet_{part}_{short}_{size}", (len(paths), size, size, 3))
    readers.resized(paths, x, size, short)
    return x, y


def _split(name: str, *, rest: bool) -> readers.Arrays:
    """The images that splits.toml lists under a name, or those of the larger set that it leaves."""
    split = tomllib.loads(Path(__file__).with_name("splits.toml").read_text(encoding="utf-8"))[name]
    whole = images(split["from"])
    rows = np.setdiff1d(np.arange(len(whole.y)), split["rows"]) if rest else np.array(split["rows"])
    return whole.x[rows], whole.y[rows]


def _npz(name: str) -> Callable[[], readers.Arrays]:
    return lambda: readers.npz(verified(name))


@dataclass(frozen=True)
class _Set:
    """How a named set is read; ``slow`` ones are decoded once and kept as .npy."""

    read: Callable[[], readers.Arrays]
    slow: tuple[str, ...] = ()


SETS: Mapping[str, _Set] = {
    "cifar10/test_1000": _Set(_npz("cifar10/test_1000.npz")),
    "cifar10/calib_4096": _Set(_npz("cifar10/calib_4096.npz")),
    "cifar10/test_jpeg_10000": _Set(
        lambda: readers.jpeg_npz(verified("cifar10/test_jpeg_10000.npz")), slow=("cifar10/test_jpeg_10000.npz",)
    ),
    "cifar10/train": _Set(_cifar_train, slow=("cifar10/train/labels.npy",)),
    "cifar10/test_10000": _Set(lambda: readers.cifar_batches(data_root(), train=False)),
    "imagenet/val_1300": _Set(lambda: _tar("val_1300_227px"), slow=("imagenet/val_1300_227px.tar",)),
    "imagenet/val_300_calib": _Set(partial(_split, "imagenet/val_300_calib", rest=False)),
    "imagenet/val_1000_eval": _Set(partial(_split, "imagenet/val_300_calib", rest=True)),
    "imagenet/train_1000": _Set(lambda: _tar("train_1000_crop224"), slow=("imagenet/train_1000_crop224.tar",)),
    "imagenet/val": _Set(partial(_imagenet, "val"), slow=("imagenet/val",)),
    "imagenet/train": _Set(partial(_imagenet, "train", 4), slow=("imagenet/train",)),  # 4 of a class serve n <= 4,000
}


def images(name: str) -> Images:
    """Read a named set; see :data:`SETS` for the names.

    Raises:
        BadInput: no such name.
        DataMissing: its files are not here.
        DataCorrupt: they are here and are not what was published.

    """
    chosen = SETS.get(name)
    if found := re.fullmatch(r"imagenet/val_(\d{3})_(\d{3})", name):  # networks that are not on 256/224
        chosen = _Set(partial(_imagenet, "val", 0, int(found[1]), int(found[2])), slow=("imagenet/val",))
    if chosen is None:
        near = difflib.get_close_matches(name, SETS, 1)
        raise BadInput(f"no image set {name!r}" + (f"; did you mean {near[0]}?" if near else f"; known: {list(SETS)}"))
    if chosen.slow:
        x, y, digest = decoded.cached(name, chosen.slow, chosen.read)
    else:
        x, y = chosen.read()
        digest = decoded.content_digest(x, y)
    return Images(name, x, y, digest)


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

    The first m indices of a draw of n are the draw of m: calibration sets of different sizes are nested.

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
