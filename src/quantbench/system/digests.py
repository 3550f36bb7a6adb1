"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zipfile import Path as ZipPath


def file_digest(path: Path | ZipPath, algorithm: str = "sha256") -> str:
    """Digest of a file's bytes, in hexadecimal; the file may be larger than memory."""
    with path.open("rb") as file:
        # members of archives have readinto as well, which their type does not say
        return hashlib.file_digest(file, algorithm).hexdigest()  # type: ignore[arg-type]
