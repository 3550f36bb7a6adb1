"""Data sets that are not what was published, or that lead elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from quantbench.data import image_sets, masks, readers, text
from quantbench.data.dvc import make_remote
from quantbench.data.sources.convert_tensorflow import from_npy
from quantbench.tasks.detection import coco
from tests.reliability.corpus.row import Bad, Meets, file

SHAPES, TRAIN = "data/embedded/shapes/calib", "data/text/train-v1.1.json"

COCO = {
    "images": [{"id": 1, "file_name": "../../../secret.png"}],
    "annotations": [],
    "categories": [],
}


def _data(wrong: str, make: Callable[[Path], object], meets: Meets, *says: str) -> Bad:
    return Bad("data", wrong, make, meets, says)


def _nothing(_: Path) -> None:
    """A word needs no file."""


def _shapes(_: Path) -> object:
    return image_sets.read("shapes/calib")


def _questions(_: Path) -> object:
    text.questions_file.cache_clear()
    return text.questions_file("squad/train")


def _stories(_: Path) -> object:
    text.text_file.cache_clear()
    return text.text_file("tinystories/valid")


def _coco(content: bytes) -> Callable[[Path], None]:
    """COCO's folder with these annotations."""

    def make(folder: Path) -> None:
        file("data/coco/annotations/instances_val2017.json", content)(folder)
        file("data/coco/val2017/1.jpg", b"")(folder)

    return make


def _boxes(_: Path) -> object:
    coco.read.cache_clear()
    found = coco.read("coco/val2017")
    return found.image(found.ids[0])


def _secret(folder: Path) -> None:
    """An annotation whose image lies outside, and is one."""
    _coco(json.dumps(COCO).encode())(folder)
    Image.new("RGB", (2, 2)).save(folder / "secret.png")


def _kit(folder: Path) -> None:
    """A list of VOC that leads out of the kit."""
    listed = file("kit/ImageSets/Segmentation/val.txt", "../../secret\n")(folder)
    Image.new("RGB", (2, 2)).save(folder / "secret.jpg")
    assert listed.exists()


def _imagenet(folder: Path) -> None:
    """Two classes, of a thousand."""
    for name in ("n01440764", "n01443537"):
        file(f"data/imagenet/val/{name}/1.JPEG", b"")(folder)


def _mosaic(folder: Path) -> None:
    path = folder / "set"
    path.mkdir()
    Image.new("RGB", (8, 8)).save(path / "000.webp")
    np.save(path / "labels.npy", np.zeros(4, np.uint8))


def _read_mosaic(folder: Path) -> object:
    return readers.mosaics(folder / "set", (2, 2), 1, "set")


def _object_array(folder: Path) -> None:
    np.save(folder / "a.npy", np.array([{}], object), allow_pickle=True)


ROWS = (
    _data(
        "a changed image",
        file(f"{SHAPES}/000.webp", b"RIFF"),
        _shapes,
        "000.webp",
        "truncated or changed",
    ),
    _data(
        "changed labels",
        file(f"{SHAPES}/labels.npy", b"\x93NUMPY"),
        _shapes,
        "labels.npy",
        "truncated or changed",
    ),
    _data(
        "a name that is not there, pulled",
        _nothing,
        ("data", "pull", "shapez"),
        "'shapez'",
        "did you mean",
    ),
    _data("a name that is not there, fetched", _nothing, ("data", "fetch", "cifar11"), "'cifar11'"),
    _data("nothing to fetch", _nothing, ("data", "fetch"), "what can be fetched"),
    _data(
        "what has no source, fetched", _nothing, ("data", "fetch", "shapes/calib"), "shapes/calib"
    ),
    _data(
        "a remote that holds nothing",
        _nothing,
        ("data", "remote", "."),
        "any file of the real tier",
    ),
    _data("two remotes", _nothing, ("data", "remote", "a", "b"), "the one folder"),
    _data(
        "a list of files that is no YAML",
        file("data.dvc", "outs: [\n"),
        lambda f: make_remote(f, clone=f),
        "data.dvc",
        "take it from git",
    ),
    _data(
        "a list of files without files",
        file("data.dvc", "a: 1\n"),
        lambda f: make_remote(f, clone=f),
        "data.dvc",
        "take it from git",
    ),
    _data(
        "a list of files that leads outside",
        file("data.dvc", f"outs: [{{ md5: {'0' * 32}, path: data/../../x, remote: real }}]"),
        lambda f: make_remote(f, clone=f),
        *("data.dvc", "take it from git"),
    ),
    _data(
        "a list of files that lie elsewhere",
        file("data.dvc", f"outs: [{{ md5: {'0' * 32}, path: tada/x, remote: real }}]"),
        lambda f: make_remote(f, clone=f),
        *("data.dvc", "take it from git"),
    ),
    _data(
        "questions that are no JSON",
        file(TRAIN, '{"data": '),
        _questions,
        "train-v1.1.json",
        "not a whole file",
    ),
    _data(
        "a text that is not UTF-8",
        file("data/text/TinyStories-valid.txt", b"a\xff"),
        _stories,
        "TinyStories-valid.txt",
        "utf-8",
    ),
    _data("boxes that are no JSON", _coco(b"{"), _boxes, "coco/val2017", "no JSON object"),
    _data("boxes without end", _coco(b"[" * 100_000), _boxes, "coco/val2017", "no JSON object"),
    _data(
        "boxes without images", _coco(b'{"images": []}'), _boxes, "coco/val2017", "lack annotations"
    ),
    _data(
        "an image of the boxes that lies outside",
        _secret,
        _boxes,
        "'../../../secret.png'",
        "leads out",
    ),
    _data(
        "a list of VOC that leads outside",
        _kit,
        lambda f: masks.devkit(f / "kit", "val", np.zeros),
        "val.txt",
        "leads out",
    ),
    _data(
        "an ImageNet of two classes",
        _imagenet,
        lambda _: image_sets.read("imagenet/val"),
        "2 class folders",
        "imagenet",
    ),
    _data(
        "CIFAR-10 without its batches",
        file("cifar-10-batches-py/x", ""),
        lambda f: readers.cifar_batches(f, train=False),
        "cifar-10-batches-py",
        "as published",
    ),
    _data("a mosaic of another size", _mosaic, _read_mosaic, "000.webp", "not a mosaic"),
    _data(
        "half an image",
        file("a.jpg", b"\xff\xd8\xff"),
        lambda f: readers.shrink(f / "a.jpg", 8),
        "a.jpg",
        "not a whole image",
    ),
    _data(
        "an array of objects",
        _object_array,
        lambda f: from_npy(f / "a.npy"),
        "a.npy",
        "not a whole .npy",
    ),
)
