"""Decode once: slow image sets are kept as .npy files, keyed by their sources."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import __version__ as pillow

from quantbench.data.manifest import locate
from quantbench.data.readers import Arrays
from quantbench.data.roots import cache_root
from quantbench.errors import QuantbenchError
from quantbench.system.atomic import write_atomically

_BLOCK = 512


def content_digest(x: np.ndarray, y: np.ndarray) -> str:
    """Sha256 over the bytes of ``x`` and then of ``y``, block by block."""
    h = hashlib.sha256()
    for part in (x, y):
        for i in range(0, len(part), _BLOCK):
            h.update(np.ascontiguousarray(part[i : i + _BLOCK]).data)
    return h.hexdigest()


def cached(
    name: str, sources: Sequence[str], read: Callable[[], Arrays]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Arrays and digest of a set, from the cache where its sources are unchanged, else ``read()``.

    A cache that cannot be written (read-only, disk full) is no error: the arrays are returned from
    memory.
    """
    stem = _folder() / f"{name.replace('/', '_')}-{_key(sources)}"
    found = _load(stem)
    if found:
        return found
    x, y = read()
    digest = content_digest(x, y)
    try:
        _store(stem, x, y, digest)
    except (OSError, QuantbenchError):
        return x, y, digest
    return _load(stem) or (x, y, digest)


def scratch(name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> np.ndarray:
    """Zeros in a file that is deleted when the array is, for sets larger than memory."""
    _folder().mkdir(parents=True, exist_ok=True)
    path = _folder() / f".{name}.{os.getpid()}"
    array = np.memmap(path, dtype, "w+", shape=shape)
    path.unlink()
    return array


def _folder() -> Path:
    return cache_root() / "decoded"


def _key(sources: Sequence[str]) -> str:
    """Changes when a source is replaced (path, size, time) or the decoder is another one."""
    parts = [pillow]
    for source in sources:
        path = locate(source)
        stat = path.stat() if path.exists() else None
        parts.append(f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}" if stat else source)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _load(stem: Path) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Memory-mapped arrays, if the note beside them says that they are whole and unchanged."""
    x_path, y_path, note = (stem.with_suffix(s) for s in (".x.npy", ".y.npy", ".json"))
    try:
        facts = json.loads(note.read_text(encoding="utf-8"))
        whole = all(
            [p.stat().st_size, p.stat().st_mtime_ns] == facts[p.name] for p in (x_path, y_path)
        )
    except (OSError, ValueError, KeyError):
        return None
    if not whole:
        return None
    return np.load(x_path, mmap_mode="r"), np.load(y_path), facts["digest"]


def _store(stem: Path, x: np.ndarray, y: np.ndarray, digest: str) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    facts: dict[str, object] = {"digest": digest}
    for suffix, array in ((".x.npy", x), (".y.npy", y)):
        path = stem.with_suffix(suffix)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                np.save(file, array, allow_pickle=False)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        facts[path.name] = [path.stat().st_size, path.stat().st_mtime_ns]
    write_atomically(stem.with_suffix(".json"), json.dumps(facts))
