"""From image and text collections in public repositories to the files of the real tier."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from quantbench.data import mosaic
from quantbench.data.archives import DAMAGE
from quantbench.data.manifest import CIFAR_GRID
from quantbench.data.readers import centre, picture, shrink
from quantbench.data.sources.convert_weights import Get
from quantbench.errors import DataCorrupt

_SIDE = 32


def _labels(get: Get, source: str) -> np.ndarray:
    """Labels of convnetjs, training images first, from a JavaScript array."""
    (script,) = get(f"{source}/cifar10_labels.js")
    return np.array(
        re.findall(r"\d+", script.read_text(encoding="utf-8").partition("[")[2]), np.uint8
    )


def _batches(
    get: Get, source: str, numbers: Sequence[int], each: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Images of convnetjs, a PNG row an image of 1,024 pixels, and their labels."""
    labels, images = _labels(get, source), []
    for path in get(*(f"{source}/cifar10_batch_{n}.png" for n in numbers)):
        rows = picture(path.read_bytes(), path.name)
        if rows.shape != (each, _SIDE * _SIDE, 3):
            raise DataCorrupt(f"{path.name} is {rows.shape}, not a batch of {each} images")
        images.append(rows.reshape(each, _SIDE, _SIDE, 3))
    return np.concatenate(images), np.concatenate(
        [labels[n * each : (n + 1) * each] for n in numbers]
    )


def cifar_calibration(get: Get, out: Path, source: str) -> None:
    """``calib_4096_index.npy``: 410 or 409 images a class, drawn and shuffled by legacy seed 0."""
    y = _labels(get, source)[:50_000]
    rng = np.random.RandomState(0)
    counts = [410] * 6 + [409] * 4
    drawn = [rng.permutation(np.flatnonzero(y == c))[:n] for c, n in enumerate(counts)]
    index = np.concatenate(drawn)
    rng.shuffle(index)
    np.save(out, index.astype(np.int32), allow_pickle=False)


def cifar_labels(get: Get, out: Path, source: str) -> None:
    """``train/labels.npy``."""
    np.save(out, _batches(get, source, range(50))[1], allow_pickle=False)


def cifar_mosaics(get: Get, out: Path, source: str) -> None:
    """``train/000.webp`` to ``099.webp``; ``out`` is ``train/*.webp``."""
    x, _ = _batches(get, source, range(50))
    for i, part in enumerate(np.split(x, len(x) // math.prod(CIFAR_GRID))):
        mosaic.write(part, out.with_name(f"{i:03d}.webp"), CIFAR_GRID)


def _listing(get: Get, source: str) -> list[tuple[str, int]]:
    (listing,) = get(f"{source}/dataset.txt")
    lines = (
        line.partition(",") for line in listing.read_text(encoding="utf-8").splitlines() if line
    )
    return [(name.strip().rpartition("/")[2], int(label)) for name, _, label in lines]


def imagenet_val(get: Get, out: Path, source: str) -> None:
    """``val_1300_227px.tar``: the files of acuity-dataset as they are."""
    names = [name for name, _ in _listing(get, source)]
    write_tar(
        out,
        zip(
            names,
            (p.read_bytes() for p in get(*(f"{source}/data/{n}" for n in names))),
            strict=True,
        ),
    )


def imagenet_val_csv(get: Get, out: Path, source: str) -> None:
    """``val_1300_227px.csv``."""
    (words,) = get(f"{source}/synset_words.txt")
    synsets = [line.split()[0] for line in words.read_text(encoding="utf-8").splitlines() if line]
    _csv(out, [(name, label, synsets[label]) for name, label in _listing(get, source)])


def _gallery(get: Get) -> list[str]:
    (page,) = get("gallery.md")
    return sorted(set(re.findall(r"\((n\d{8}_[^)]+\.JPEG)\)", page.read_text(encoding="utf-8"))))


def imagenet_train(get: Get, out: Path, _source: str) -> None:
    """``train_1000_crop224.tar``: short side 256, centre 224, JPEG 95, chroma not subsampled."""
    names = _gallery(get)
    write_tar(out, ((n, _crop(p)) for n, p in zip(names, get(*names), strict=True)))


def imagenet_train_csv(get: Get, out: Path, _source: str) -> None:
    """``train_1000_crop224.csv``: one image a class, in the order of the synsets."""
    _csv(out, [(name, label, name.partition("_")[0]) for label, name in enumerate(_gallery(get))])


def _crop(path: Path) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(centre(shrink(path, 256), 224)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def write_tar(out: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Files by name and content, without times or owners."""
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _csv(out: Path, rows: Iterable[tuple[str, int, str]]) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "synset"))
        writer.writerows(rows)


def unzip_json(get: Get, out: Path, source: str) -> None:
    """The one JSON file in a .zip, as .gz."""
    (path,) = get(source)
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [
                n for n in archive.namelist() if n.endswith(".json") and not n.startswith("__")
            ]
            content = archive.read(name)
        json.loads(content)
    except (*DAMAGE, zipfile.BadZipFile, RuntimeError) as e:  # encrypted, nested, another version
        raise DataCorrupt(f"{path.name} is not a whole .zip with one JSON file: {e}") from e
    out.write_bytes(gzip.compress(content, 9, mtime=0))


def zipped(get: Get, out: Path, source: str) -> None:
    """A text, as .gz."""
    (path,) = get(source)
    out.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def copied(get: Get, out: Path, source: str) -> None:
    """A file as it is."""
    (path,) = get(source)
    out.write_bytes(path.read_bytes())
