"""Where the data, the cache and the clone are."""

from __future__ import annotations

import os
from pathlib import Path


def clone_root() -> Path:
    """The clone that holds ``data.dvc``: this file's, or the nearest above the working folder."""
    own = Path(__file__).resolve().parents[3]
    for folder in (own, Path.cwd(), *Path.cwd().parents):
        if (folder / "data.dvc").is_file():
            return folder
    return Path.cwd()


def data_root() -> Path:
    """``$QUANTBENCH_DATA``, else ``data`` in the clone."""
    named = os.environ.get("QUANTBENCH_DATA")
    return Path(named) if named else clone_root() / "data"


def cache_root() -> Path:
    """``$QUANTBENCH_CACHE``, else ``data/cache`` in the clone; may be deleted at any time."""
    named = os.environ.get("QUANTBENCH_CACHE")
    return Path(named) if named else clone_root() / "data" / "cache"
