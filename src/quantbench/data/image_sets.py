"""The named image sets: which files each is made of, and how they are read."""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.data import decoded, masks, readers
from quantbench.data.manifest import CIFAR_GRID, SHAPES_GRID, locate, table, verified
from quantbench.data.roots import data_root
from quantbench.errors import BadInput, DataCorrupt, DataMissing, did_you_mean

_HERE = Path(__file__).parent
_VOC = "voc/voc2012_seg48.tar"

_VOC_DEVKIT = "VOCdevkit/VOC2012"

_VOC_LISTS = f"{_VOC_DEVKIT}/ImageSets/Segmentation"

_COCO_IMAGES = "coco/val2017_first128_416px.tar"

_COCO_MASKS = "coco/coco_val2017_first128_vocmasks100.tar"

_RENDERER = str(_HERE / "procedural" / "shapes.py")


def _cifar(part: str) -> readers.Arrays:
    """The mosaics of CIFAR-10's ``train`` or ``test``, whose pixels have a published digest."""
    labels = verified(f"cifar10/{part}/labels.npy")
    published = table()[f"cifar10/{part}/*.webp"]
    x, y = readers.mosaics(labels.parent, CIFAR_GRID, published.files, f"cifar10/{part}")
    if (found := hashlib.sha256(x.tobytes()).hexdigest()) != published.decoded:
        raise DataCorrupt(
            f"the mosaics in {labels.parent} decode to sha256 {found}: one of them was changed"
        )
    return x, y


def _cifar_test() -> readers.Arrays:
    """The whole test set, from mosaics or from torchvision's batches: the same pixels."""
    if locate("cifar10/test/labels.npy").exists():
        return _cifar("test")
    return readers.cifar_batches(data_root(), train=False)


def _cifar_calib() -> readers.Arrays:
    """Balanced images of the training set, by their positions in it."""
    rows = np.load(verified("cifar10/calib_4096_index.npy"), allow_pickle=False)
    x, y, _ = read("cifar10/train")
    return x[rows], y[rows]


def _tar(stem: str, *, floor: bool = False) -> readers.Arrays:
    archive, labels = (verified(f"imagenet/{stem}.{kind}") for kind in ("tar", "csv"))
    return readers.tar(archive, labels, floor=floor)


def imagenet_files(part: str) -> tuple[list[Path], np.ndarray]:
    """Files and labels (N,) of ImageNet's ``train`` or ``val``, all of them.

    Raises:
        DataMissing: no such folder.
        DataCorrupt: not a folder a class.

    """
    folder = locate(f"imagenet/{part}")
    if not folder.is_dir():
        raise DataMissing(
            f"imagenet/{part}",
            f"ln -s <your ILSVRC2012 {part} folder, one folder a class> {folder}",
        )
    return readers.image_folder(folder)


def _imagenet(part: str, per_class: int = 0, short: int = 256, size: int = 224) -> readers.Arrays:
    """An ImageNet folder as evaluation sees it; ``per_class`` keeps the first of each class."""
    paths, y = imagenet_files(part)
    if per_class:
        chosen = np.concatenate([np.flatnonzero(y == label)[:per_class] for label in np.unique(y)])
        paths, y = [paths[i] for i in chosen], y[chosen]
    x = decoded.scratch(f"imagenet_{part}_{short}_{size}", (len(paths), size, size, 3))
    readers.resized(paths, x, size, short)
    return x, y


@functools.cache
def splits() -> Mapping[str, Any]:
    """The published lists of images by name, which splits.toml holds."""
    return tomllib.loads((_HERE / "splits.toml").read_text(encoding="utf-8"))


def _split(name: str, *, rest: bool) -> readers.Arrays:
    """The images that splits.toml lists under a name, or those of the larger set that it leaves."""
    split = splits()[name]
    x, y, _ = read(split["from"])
    rows = np.setdiff1d(np.arange(len(y)), split["rows"]) if rest else np.array(split["rows"])
    return x[rows], y[rows]


def _stored_shapes(split: str) -> readers.Arrays:
    """Mosaics that the clone holds."""
    mosaics = [
        e.name
        for e in table().values()
        if e.name.startswith(f"embedded/shapes/{split}/") and e.name[-1] == "p"
    ]
    folder = verified(f"embedded/shapes/{split}/labels.npy").parent
    for name in mosaics:
        verified(name)
    return readers.mosaics(folder, SHAPES_GRID, len(mosaics), f"shapes/{split}")


def _rendered_shapes(split: str) -> readers.Arrays:
    """Images rendered here: as many as statistics need, and none of them in the clone."""
    from quantbench.data.procedural import shapes

    x, y = shapes.render(split)
    if (found := decoded.content_digest(x, y)) != shapes.DIGESTS[split]:
        raise DataCorrupt(
            f"shapes/{split}, rendered here, has sha256 {found}, not {shapes.DIGESTS[split]}: "
            f"this numpy ({np.__version__}) draws or rounds otherwise; "
            "install the one in constraints.txt"
        )
    return x, y


def _voc_devkit(part: str) -> readers.Arrays:
    """A list of the user's own copy of VOC 2012."""
    canvas = partial(decoded.scratch, f"voc_{part}")
    return masks.devkit(locate(_VOC_DEVKIT), part, canvas)


def _coco_masks() -> readers.Arrays:
    """The images of COCO that have masks."""
    return masks.coco(verified(_COCO_IMAGES), verified(_COCO_MASKS))


@dataclass(frozen=True)
class _Set:
    """How a named set is read; ``slow`` ones are decoded once and kept as .npy."""

    read: Callable[[], readers.Arrays]
    slow: tuple[str, ...] = ()


SETS: Mapping[str, _Set] = {
    "cifar10/calib_4096": _Set(_cifar_calib),
    "cifar10/train": _Set(partial(_cifar, "train"), slow=("cifar10/train/labels.npy",)),
    "cifar10/test": _Set(
        _cifar_test, slow=("cifar10/test/labels.npy", "cifar-10-batches-py/test_batch")
    ),
    "imagenet/val_1300": _Set(
        lambda: _tar("val_1300_227px"), slow=("imagenet/val_1300_227px.tar",)
    ),
    # the crop's offset of 1.5 pixels rounded down, as some figures beside the data have it
    "imagenet/val_1300_floor": _Set(
        lambda: _tar("val_1300_227px", floor=True), slow=("imagenet/val_1300_227px.tar",)
    ),
    "imagenet/val_300_calib": _Set(partial(_split, "imagenet/val_300_calib", rest=False)),
    "imagenet/val_1000_eval": _Set(partial(_split, "imagenet/val_300_calib", rest=True)),
    "imagenet/train_1000": _Set(
        lambda: _tar("train_1000_crop224"), slow=("imagenet/train_1000_crop224.tar",)
    ),
    "imagenet/val": _Set(partial(_imagenet, "val"), slow=("imagenet/val",)),
    # 4 of a class serve n <= 4,000
    "imagenet/train": _Set(partial(_imagenet, "train", 4), slow=("imagenet/train",)),
    # with a class for every pixel
    "voc/seg48": _Set(lambda: masks.voc(verified(_VOC)), slow=(_VOC,)),
    "voc/val": _Set(partial(_voc_devkit, "val"), slow=(f"{_VOC_LISTS}/val.txt",)),
    "voc/train": _Set(partial(_voc_devkit, "train"), slow=(f"{_VOC_LISTS}/train.txt",)),
    "coco/seg100": _Set(_coco_masks, slow=(_COCO_IMAGES, _COCO_MASKS)),
    "shapes/train": _Set(partial(_rendered_shapes, "train"), slow=(_RENDERER,)),
    "shapes/calib": _Set(partial(_stored_shapes, "calib")),
    "shapes/test": _Set(partial(_rendered_shapes, "test"), slow=(_RENDERER,)),
}


def read(name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Pixels, labels and digest of a named set.

    Raises:
        BadInput: no such name.
        DataMissing: its files are not here.
        DataCorrupt: they are here and are not what was published.

    """
    chosen = SETS.get(name)
    # networks that are not on 256/224
    if found := re.fullmatch(r"imagenet/val_(\d{3})_(\d{3})", name):
        chosen = _Set(
            partial(_imagenet, "val", 0, int(found[1]), int(found[2])), slow=("imagenet/val",)
        )
    if chosen is None:
        raise BadInput(f"no image set {name!r}{did_you_mean(name, SETS)}")
    if chosen.slow:
        return decoded.cached(name, chosen.slow, chosen.read)
    x, y = chosen.read()
    return x, y, decoded.content_digest(x, y)
