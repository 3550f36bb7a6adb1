"""Where data lives on this machine, and the check that it is what it should be."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantbench.data import content_digest, roots
from quantbench.data.roots import cache_root, data_root
from quantbench.errors import BadInput, DataCorrupt, DataMissing, QuantbenchError, did_you_mean
from quantbench.system.atomic import write_atomically
from quantbench.system.digests import file_digest

# rows and columns of images in a mosaic
CIFAR_GRID = (20, 25)

SHAPES_GRID = (16, 32)

EMBEDDED = "embedded/"  # begins the names of that tier

# what brings data here: in a clone, and where the package is installed without one
PULL, REMOTE = "quantbench data pull embedded", "quantbench data remote <a folder that holds it>"
REINSTALL = "pip install --force-reinstall --no-deps quantbench, whose wheel carries it"
NAMED = "export QUANTBENCH_DATA=<a folder that holds it>"


@dataclass(frozen=True)
class Entry:
    """One file of the data tiers.

    Attributes:
        name: path below the data root, such as ``cifar10/train/labels.npy``.
        set: the name by which code asks for it, such as ``cifar10/test`` or a checkpoint's.
        sha256: of the file; empty when only the decoded content has a digest.
        bytes: length of the file.
        content: of what the file says, for a file built again from its source; see
            :mod:`quantbench.data.content_digest`.
        files: how many files a name with ``*`` stands for.
        decoded: sha256 of their decoded uint8 array.
        repository: ``owner/name`` of the public repository that it came from; empty for what the
            project made.
        commit: full hash in that repository.
        source: path there, or ``torchvision``, which has its own download.
        second: what else it is built from, ``owner/name@commit:path``.
        licence: as stated there.

    """

    name: str
    set: str = ""
    sha256: str = ""
    bytes: int = 0
    content: str = ""
    files: int = 0
    decoded: str = ""
    repository: str = ""
    commit: str = ""
    source: str = ""
    second: str = ""
    licence: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the project made it, and the clone and the package carry it."""
        return self.name.startswith(EMBEDDED)

    @property
    def command(self) -> str:
        """The command that would bring it here."""
        if self.repository or self.source == "torchvision":
            return f"quantbench data fetch {self.set}"
        if roots.in_clone():
            return PULL if self.embedded else f"{REMOTE}, then quantbench data pull"
        return REINSTALL if self.embedded else NAMED


@functools.cache
def table() -> Mapping[str, Entry]:
    """Every known file: the real tier (sources.toml) and the embedded one (embedded.toml)."""
    entries: dict[str, Entry] = {}
    for name in ("sources.toml", "embedded.toml"):
        path = Path(__file__).with_name(name)
        if path.exists():
            rows = tomllib.loads(path.read_text(encoding="utf-8"))
            entries |= {key: Entry(name=key, **row) for key, row in rows.items()}
    return entries


def members(name: str) -> tuple[Entry, ...]:
    """Entries of a tier (``embedded``, ``real``), a set, a checkpoint or one file.

    Raises:
        BadInput: nothing is known by that name.

    """
    known = table()
    tier = {"embedded": True, "real": False}.get(name)
    found = [e for e in known.values() if name in (e.name, e.set) or tier is e.embedded]
    if not found:
        raise BadInput(
            f"no data is called {name!r}{did_you_mean(name, {e.set for e in known.values()})}"
        )
    return tuple(found)


def present(entry: Entry) -> bool:
    """Whether a file is here; an embedded one also has to be what this version names."""
    path = locate(entry.name)
    if "*" in path.name:
        return len(list(path.parent.glob(path.name))) == entry.files
    if not path.is_file():
        return False
    if entry.embedded:
        with contextlib.suppress(DataCorrupt):
            verify(path, entry.sha256)
            return True
        return False
    return True


def locate(name: str) -> Path:
    """Path below the data root, the clone's ``data``, or the package; may not exist, unchecked."""
    below = (data_root(), roots.clone_root() / "data", roots.PACKAGE)
    return next((found for root in below if (found := root / name).exists()), below[0] / name)


def verified(name: str) -> Path:
    """Path of one known file, after its sha256 was checked.

    The check is remembered by path, size and modification time in :func:`cache_root`.

    Raises:
        DataMissing: it is not here.
        DataCorrupt: it is here and its digest differs from the published one.

    """
    entry = table().get(name) or Entry(name)
    path = locate(name)
    if not path.is_file():
        raise DataMissing(name, entry.command)
    if entry.sha256:
        verify(path, entry.sha256, entry.content)
    return path


def verify(path: Path, sha256: str, content: str = "") -> None:
    """Raise DataCorrupt unless a file hashes to ``sha256``, or says what ``content`` is of.

    A file that was checked before and is unchanged is not read again.
    """
    stat = path.stat()
    _verify(path.absolute(), stat.st_size, stat.st_mtime_ns, sha256, content)


@functools.lru_cache(maxsize=1024)  # an error is not kept
def _verify(path: Path, size: int, changed: int, sha256: str, content: str) -> None:
    """The same, of a file of this size that was changed then."""
    stamp = cache_root() / "verified" / hashlib.sha256(str(path).encode()).hexdigest()[:32]
    line = f"{size} {changed} {sha256}"
    with contextlib.suppress(OSError):
        if stamp.read_text(encoding="ascii") == line:
            return
    found = file_digest(path)
    if found != sha256 and not (content and _says(path, content)):
        raise DataCorrupt(
            f"{path} has {size} bytes and sha256 {found}, not the published {sha256}; "
            "it was truncated or changed: delete it and fetch it again"
        )
    # a read-only or full disk only costs the next check its time
    with contextlib.suppress(QuantbenchError):
        write_atomically(stamp, line)


def _says(path: Path, content: str) -> bool:
    with contextlib.suppress(DataCorrupt):
        return content_digest.digest(path) == content
    return False
