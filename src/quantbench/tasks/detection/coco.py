"""Image sets in COCO's format, and their mean average precision with what each image adds to it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.data.archives import members, require_inside
from quantbench.data.image_sets import splits
from quantbench.data.images import file
from quantbench.data.roots import data_root
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.system.digests import file_digest

_REAL = {"coco/val2017": "val2017", "coco/train2017": "train2017"}

_EMBEDDED = ("scenes/calib", "scenes/test")

# the first 128 images of val2017 at 416 pixels; splits.toml says which of them are for calibration
_FIRST = ("coco/first128", "coco/first128_calib", "coco/first128_eval")

_FOLDER = (
    "ln -s <your COCO folder, which holds annotations/ and the images' folders> "
    "$QUANTBENCH_DATA/coco"
)


@dataclass(frozen=True, eq=False)
class CocoSet:
    """A set of images with boxes.

    Attributes:
        name: such as ``coco/val2017``.
        content: the annotations file.
        folder: where the images are, in a folder or an archive.
        digest: of the annotations, and of the images' names and sizes.

    """

    name: str
    content: Mapping[str, Any]
    folder: Any
    digest: str

    @property
    def ids(self) -> list[int]:
        """Image numbers in order."""
        return sorted(row["id"] for row in self.content["images"])

    def image(self, number: int) -> np.ndarray:
        """uint8 (H, W, 3), RGB."""
        from PIL import Image

        require_inside(self._names[number], f"{self.name}: the annotations' image")
        path = self.folder / self._names[number]
        try:
            with path.open("rb") as opened, Image.open(opened) as picture:
                return np.array(picture.convert("RGB"))
        except (OSError, KeyError) as e:
            raise DataCorrupt(
                f"{self.name}: image {path} of the annotations cannot be read: {e}"
            ) from e

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        return {row["id"]: row["file_name"] for row in self.content["images"]}


def detection(number: int, corners: Sequence[float], category: int, score: float) -> dict[str, Any]:
    """One detection of image ``number`` in COCO's format, from (left, top, right, bottom)."""
    left, top, right, bottom = corners
    box = [left, top, right - left, bottom - top]
    return {"image_id": number, "category_id": category, "bbox": box, "score": score}


@functools.lru_cache(maxsize=4)
def read(name: str) -> CocoSet:
    """A named set: of COCO's folder, of its first 128 validation images, or of rendered scenes.

    Raises:
        BadInput: no such name.
        DataMissing: it is not here.
        DataCorrupt: it is not what was published, or not in COCO's format.

    """
    if name in _EMBEDDED:
        path = file(f"{name}.zip")
        archive = zipfile.Path(path)
        return _checked(
            name, (archive / "annotations.json").read_bytes(), archive / "images", file_digest(path)
        )
    if name in _FIRST:
        return _first(name)
    if name not in _REAL:
        known = ", ".join((*_REAL, *_FIRST, *_EMBEDDED))
        raise BadInput(f"no set of images with boxes {name!r}; choose {known}")
    root = data_root() / "coco"
    annotations, folder = root / "annotations" / f"instances_{_REAL[name]}.json", root / _REAL[name]
    if not annotations.is_file() or not folder.is_dir():
        raise DataMissing(name, _FOLDER)
    listing = "".join(f"{p.name} {p.stat().st_size}\n" for p in sorted(folder.iterdir()))
    digest = hashlib.sha256(file_digest(annotations).encode() + listing.encode()).hexdigest()
    return _checked(name, annotations.read_bytes(), folder, digest)


def _first(name: str) -> CocoSet:
    """The 128 images, or a part of them with its boxes."""
    archive, boxes = (file(f"coco/val2017_first128_416px{end}") for end in (".tar", "_boxes.json"))
    digest = hashlib.sha256(f"{name} {file_digest(archive)} {file_digest(boxes)}".encode())
    whole = _checked(name, boxes.read_bytes(), TarFolder(archive), digest.hexdigest())
    if name == _FIRST[0]:
        return whole
    chosen = {whole.ids[row] for row in splits()[_FIRST[1]]["rows"]}
    numbers = chosen if name == _FIRST[1] else {*whole.ids} - chosen
    images = [row for row in whole.content["images"] if row["id"] in numbers]
    found = [row for row in whole.content["annotations"] if row["image_id"] in numbers]
    return replace(whole, content={**whole.content, "images": images, "annotations": found})


@dataclass(frozen=True)
class TarFolder:
    """A .tar as a folder: ``folder / name`` is a member, which opens."""

    path: Path
    name: str = ""

    def __truediv__(self, name: str) -> TarFolder:
        """One of its members, without looking whether it is there."""
        return TarFolder(self.path, name)

    def open(self, mode: str = "rb") -> io.BytesIO:  # noqa: ARG002 - as of other folders
        """The bytes of a member.

        Raises:
            OSError: there is no such member, or the archive is broken.

        """
        try:
            return io.BytesIO(_members(self.path)[self.name])
        except (DataCorrupt, KeyError) as e:
            raise OSError(f"{self.path}: {e}") from e


@functools.lru_cache(maxsize=1)
def _members(path: Path) -> dict[str, bytes]:
    """Every file of an archive: together no larger than it, and read a hundred times."""
    return dict(members(path))


def _checked(name: str, text: bytes, folder: Any, digest: str) -> CocoSet:
    try:
        content = json.loads(text)
        missing = {"images", "annotations", "categories"} - content.keys()
    except (ValueError, AttributeError, RecursionError) as e:  # not JSON, or a list
        raise DataCorrupt(f"{name}: the annotations are no JSON object: {e}") from e
    if missing:
        raise DataCorrupt(
            f"{name}: the annotations lack {', '.join(sorted(missing))}, which COCO's format has"
        )
    if not content["images"]:
        raise DataCorrupt(f"{name}: the annotations name no image")
    return CocoSet(name, content, folder, digest)


def available() -> None:
    """Raise DataMissing unless pycocotools, which scores detections, is installed."""
    if importlib.util.find_spec("pycocotools") is None:
        raise DataMissing("detection", "pip install 'quantbench[detection]'")
