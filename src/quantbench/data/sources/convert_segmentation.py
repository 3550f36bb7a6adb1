"""Images of Pascal VOC and COCO with masks of classes, and TensorFlow's DeepLabV3."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from quantbench.data.masks import VOID
from quantbench.data.sources.convert_data import write_tar
from quantbench.data.sources.convert_tensorflow import from_npy
from quantbench.data.sources.convert_weights import Get, tensor
from quantbench.errors import DataCorrupt

# The images of VOC 2012 that the source of the pictures holds,
# by their part of 2012.
TRAIN = (
    *("000032", "000039", "000063", "000068", "000121", "000170", "000241", "000243", "000250"),
    *("000256", "000333", "000363", "000364", "000392", "000480", "000504", "000515", "000528"),
    *("000549", "000584", "000645", "000648", "000713", "000720", "000733", "000738"),
)
VAL = (
    *("000033", "000042", "000061", "000123", "000129", "000175", "000187", "000323", "000332"),
    *("000346", "000452", "000464", "000491", "000529", "000559", "000572", "000629", "000636"),
    *("000661", "000663", "000676", "000727"),
)

# COCO's numbers of VOC's classes; other numbers are background, and 0 is not labelled.
COCO_CLASSES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)


def _stems() -> list[str]:
    return [f"2007_{number}" for number in sorted(TRAIN + VAL)]


def voc_tar(get: Get, out: Path, source: str) -> None:
    """``voc2012_seg48.tar``: each image and its mask, both files as they are published."""
    images = get(*(f"{source}/{stem}.jpg" for stem in _stems()))
    masks = (get.second(f"{stem}.png") for stem in _stems())
    pairs = (
        ((f"JPEGImages/{image.name}", image), (f"SegmentationClass/{mask.name}", mask))
        for image, mask in zip(images, masks, strict=True)
    )
    write_tar(out, ((name, path.read_bytes()) for name, path in chain(*pairs)))


def voc_csv(_get: Get, out: Path, _source: str) -> None:
    """``voc2012_seg48.csv``: which images are of which part."""
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "mask", "split_2012"))
        for stem in _stems():
            part = "train" if stem.removeprefix("2007_") in TRAIN else "val"
            names = f"JPEGImages/{stem}.jpg", f"SegmentationClass/{stem}.png"
            writer.writerow((*names, part))


def coco_masks(get: Get, out: Path, source: str) -> None:
    """``coco_val2017_first128_vocmasks100.tar``: semantic masks in VOC's classes.

    Of the 128 images those count whose annotations have masks at all.
    """
    numbers = np.zeros(256, np.uint8)
    numbers[list(COCO_CLASSES)] = np.arange(1, len(COCO_CLASSES) + 1)
    numbers[0] = VOID
    (panoptic,) = get("panoptic_segmentation/annotations/panoptic_val2017.json")
    rows = json.loads(panoptic.read_text(encoding="utf-8"))["annotations"]
    paths = get(*(f"{source}/{row['file_name']}" for row in rows))
    write_tar(out, ((p.name, _png(numbers[_mask(p)])) for p in paths))


def _mask(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as e:
        raise DataCorrupt(f"{path.name} is not a whole image: {e}") from e


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


_BLOCKS = 17

_FROM_FUSED = 7  # blocks from here on are dilated: their depthwise biases have another name


def _layers() -> Iterator[tuple[str, str, str]]:
    """Name here, and the files of the kernel and of the bias, of each convolution."""
    for ours, theirs in (
        ("stem.0", "MobilenetV2_Conv_Conv2D"),
        *(("aspp0.0", "aspp0_Conv2D"), ("pool.0", "image_pooling_Conv2D")),
        ("proj.0", "concat_projection_Conv2D"),
    ):
        yield ours, theirs, f"{theirs}_bn_offset"
    yield "logits", "logits_semantic_Conv2D", "logits_semantic_biases"
    for i in range(_BLOCKS):
        stem = f"MobilenetV2_expanded_conv{f'_{i}' if i else ''}"
        parts = ("expand_Conv2D", "depthwise_depthwise", "project_Conv2D")[0 if i else 1 :]
        for j, part in enumerate(parts):
            fused = part.startswith("depthwise") and i >= _FROM_FUSED
            bias = "depthwise_BatchNorm_FusedBatchNorm" if fused else f"{part}_bn_offset"
            yield f"blocks.{i}.conv.{j}.0", f"{stem}_{part}", f"{stem}_{bias}"


def deeplab(get: Get, out: Path, source: str) -> None:
    """DeepLabV3 on MobileNetV2, batch norm folded: an .npy a tensor, kernels (out, h, w, in)."""
    layers = tuple(_layers())
    kernels = get(*(f"{source}/{kernel}.npy" for _, kernel, _ in layers))
    biases = get(*(f"{source}/{bias}.npy" for *_, bias in layers))
    tensors: dict[str, Tensor] = {}
    for (key, name, _), kernel, bias in zip(layers, kernels, biases, strict=True):
        order = (3, 0, 1, 2) if name.endswith("_depthwise") else (0, 3, 1, 2)
        tensors[f"{key}.weight"] = tensor(from_npy(kernel).transpose(order))
        tensors[f"{key}.bias"] = tensor(from_npy(bias))
    save_file(tensors, out)
