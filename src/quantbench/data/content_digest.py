"""Digests of what a file says, not of its bytes, for files that are built again from sources.

A zip, gzip, tar or safetensors file built by another version of its library may differ in packing
while every array, text or picture in it is the same.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from quantbench.data.archives import DAMAGE
from quantbench.errors import DataCorrupt

Item = tuple[str, bytes]


def digest(path: Path) -> str:
    """Sha256 over the names and contents of the parts of a file, sorted by name.

    Raises:
        DataCorrupt: it cannot be opened as what its suffix says.

    """
    read = {".npz": _arrays, ".gz": _text, ".tar": _members, ".safetensors": _tensors}.get(
        path.suffix, _plain
    )
    h = hashlib.sha256()
    try:
        for name, content in sorted(read(path)):
            h.update(f"{name} {len(content)}\n".encode())
            h.update(content)
    except (*DAMAGE, zipfile.BadZipFile, KeyError, RuntimeError) as e:
        raise DataCorrupt(f"{path} is not a whole {path.suffix} file: {e}") from e
    return h.hexdigest()


def _arrays(path: Path) -> Iterator[Item]:
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        for name in file.files:
            array = np.ascontiguousarray(file[name])
            yield f"{name} {array.dtype.str} {array.shape}", array.tobytes()


def _text(path: Path) -> Iterator[Item]:
    with gzip.open(path) as file:
        yield "", file.read()


def _members(path: Path) -> Iterator[Item]:
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            yield member.name, content.read() if content else b""


def _tensors(path: Path) -> Iterator[Item]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                array = np.ascontiguousarray(file.get_tensor(name))
                yield f"{name} {array.dtype.str} {array.shape}", array.tobytes()
    except SafetensorError as e:
        raise ValueError(str(e)) from e


def _plain(path: Path) -> Iterator[Item]:
    yield "", path.read_bytes()
