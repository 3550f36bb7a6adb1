"""The first images of COCO's validation set with their boxes, and the detector NanoDet-m."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from quantbench.data.image_sets import splits
from quantbench.data.readers import picture
from quantbench.data.sources.convert_data import write_tar
from quantbench.data.sources.convert_weights import Get, tensor
from quantbench.errors import DataCorrupt, DataMissing

SIDE = 416  # pixels of the longer side

_PANOPTIC = "panoptic_segmentation/annotations/panoptic_val2017.json"  # names images' licences

_CONFIG = "object_detection/config.yaml"  # names the classes

_LABELS = "object_detection/labels/val2017"


def images(get: Get, out: Path, source: str) -> None:
    """``val2017_first128_416px.tar``: bicubic, JPEG quality 95, chroma not subsampled."""
    names = [f"{number:012d}.jpg" for number in splits()["coco/first128"]["ids"]]
    files = get(*(f"{source}/{name}" for name in names))
    write_tar(out, ((n, _small(p)) for n, p in zip(names, files, strict=True)))


def _small(path: Path) -> bytes:
    try:
        with Image.open(path) as opened:
            whole = opened.convert("RGB")  # keeps what the file says beside its pixels
    except (OSError, ValueError, SyntaxError) as e:
        raise DataCorrupt(f"{path.name} is not a whole image: {e}") from e
    buffer = io.BytesIO()
    small = whole.resize(_size(*whole.size), Image.Resampling.BICUBIC)
    small.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _size(width: int, height: int) -> tuple[int, int]:
    """Width and height with the longer side at 416."""
    scale = SIDE / max(width, height)
    return round(width * scale), round(height * scale)


def boxes(get: Get, out: Path, source: str) -> None:
    """``val2017_first128_416px_boxes.json``: labels in YOLO's format as COCO's, at the new size.

    The repository states the licences of those images that have masks there, and no others.
    """
    config, panoptic = get(_CONFIG, _PANOPTIC)
    licences = _licences(panoptic)
    numbers = splits()["coco/first128"]["ids"]
    pictures = get(*(f"{source}/{number:012d}.jpg" for number in numbers))
    labels = get(*(f"{_LABELS}/{number:012d}.txt" for number in numbers))
    rows: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image, label in zip(numbers, pictures, labels, strict=True):
        height, width, _ = picture(image.read_bytes(), image.name).shape
        small = _size(width, height)
        row = {"id": number, "width": small[0], "height": small[1], "file_name": image.name}
        rows.append(row | ({"licence": licences[number]} if number in licences else {}))
        for box in _boxes(label, (width, height), small):
            found.append({"id": len(found) + 1, "image_id": number, **box, "iscrowd": 0})
    classes = re.findall(r"^\s+(\d+): (.+)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    categories = [{"id": int(number), "name": name} for number, name in classes]
    content = {"images": rows, "annotations": found, "categories": categories}
    out.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _licences(panoptic: Path) -> dict[int, str]:
    """Names of licences by an image's number."""
    try:
        content = json.loads(panoptic.read_text(encoding="utf-8"))
        names = {row["id"]: row["name"] for row in content["licenses"]}
        return {row["id"]: names[row["license"]] for row in content["images"]}
    except (ValueError, KeyError, TypeError) as e:
        raise DataCorrupt(f"{panoptic.name} is not in COCO's format: {e}") from e


def _boxes(label: Path, whole: tuple[int, int], small: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """Class and box of every line, which gives class, centre and size as shares of the image's.

    COCO states boxes to hundredths of a pixel of the whole image; they are scaled from there.
    """
    (width, height), ratios = whole, tuple(s / w for s, w in zip(small, whole, strict=True))
    for line in label.read_text(encoding="utf-8").splitlines():
        try:
            number, (x, y, w, h) = int(line.split()[0]), map(float, line.split()[1:])
        except (ValueError, IndexError) as e:
            raise DataCorrupt(f"{label.name}: {line!r} is no class with a box: {e}") from e
        published = ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
        box = [round(round(v, 2) * r, 2) for v, r in zip(published, ratios * 2, strict=True)]
        yield {"category_id": number, "bbox": box, "area": round(box[2] * box[3], 2)}


def nanodet(get: Get, out: Path, source: str) -> None:
    """NanoDet-m from ONNX, where batch norm is folded: its convolutions in order of execution.

    Raises:
        DataMissing: the package that reads ONNX is not installed.
        DataCorrupt: no ONNX file, or one of another network.

    """
    (path,) = get(source)
    names = tuple(_nanodet_layers())
    layers = _convolutions(path)
    if len(layers) != len(names):
        raise DataCorrupt(f"{path.name} has {len(layers)} convolutions, NanoDet-m {len(names)}")
    tensors: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, layers, strict=True):
        tensors |= {f"{name}.weight": tensor(weight), f"{name}.bias": tensor(bias)}
    save_file(tensors, out)


def _nanodet_layers() -> Iterator[str]:
    """Names of the convolutions here, in order of execution."""
    yield "conv1.0"
    for stage, units in enumerate((4, 8, 4)):
        for unit in range(units):
            branches = ("branch1.0", "branch1.1") if unit == 0 else ()
            for part in (*branches, "branch2.0", "branch2.1", "branch2.2"):
                yield f"stages.{stage}.{unit}.{part}.0"
    yield from (f"lateral.{level}" for level in range(3))
    for level in range(3):
        yield from (f"head.{level}.{pair}.{part}.0" for pair in (0, 1) for part in (0, 1))
        yield f"head.{level}.2"


def _convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of an ONNX file's convolutions, as it lists them."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.numpy_helper import to_array
    except ImportError as e:
        raise DataMissing("onnx, which reads .onnx", "pip install 'quantbench[runtimes]'") from e
    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
        arrays = {t.name: to_array(t) for t in graph.initializer}
        convs = [n.input for n in graph.node if n.op_type == "Conv"]
        return [(arrays[weight], arrays[bias]) for _, weight, bias in convs]
    except (DecodeError, ValueError, KeyError) as e:
        raise DataCorrupt(f"{path.name} is not a whole ONNX file of convolutions: {e}") from e
