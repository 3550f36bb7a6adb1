"""Where the data, the cache and the clone are, and what an installed package carries instead."""

from __future__ import annotations

import functools
import os
from pathlib import Path

# Holds embedded/ where the package was built into a wheel; in a clone DVC brings the same files.
PACKAGE = Path(__file__).parent


def clone_root() -> Path:
    """The clone of this project: this file's, or the nearest above the working folder.

    Without one, it is the working folder itself.
    """
    for folder in (_own(__file__), Path.cwd(), *Path.cwd().parents):
        if _is_clone(folder):
            return folder
    return Path.cwd()


@functools.cache  # links are followed once, and not for every cell
def _own(file: str) -> Path:
    return Path(file).resolve().parents[3]


def in_clone() -> bool:
    """Whether there is a clone at all."""
    return _is_clone(clone_root())


def _is_clone(folder: Path) -> bool:
    """A file called ``data.dvc`` is not enough: other people's projects have one too."""
    return (folder / "data.dvc").is_file() and (folder / ".dvc" / "embedded").is_dir()


def data_root() -> Path:
    """``$QUANTBENCH_DATA``, else ``data`` in the clone, or in the working folder without one."""
    named = os.environ.get("QUANTBENCH_DATA")
    return Path(named) if named else clone_root() / "data"


def cache_root() -> Path:
    """``$QUANTBENCH_CACHE``, else ``data/cache`` in the clone, else the user's cache folder.

    It may be deleted at any time.
    """
    if named := os.environ.get("QUANTBENCH_CACHE"):
        return Path(named)
    if in_clone():
        return clone_root() / "data" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quantbench"
