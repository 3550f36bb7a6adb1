"""Members of .tar files; a name that leads elsewhere is refused, and none names a path here."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from quantbench.errors import DataCorrupt

# what tarfile lets through of a file that anyone may have written
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of a .tar, compressed or not, in its order.

    Raises:
        DataCorrupt: no whole archive; a link, a device or a file with holes in it; a name that
            leads out of the archive.

    """
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                require_inside(member.name, f"{path}: member")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DataCorrupt(f"{path}: member {member.name!r} is a link or no plain file")
                content = archive.extractfile(member)
                assert content is not None
                yield member.name, content.read()
    except DAMAGE as e:
        why = " ".join(str(e).split())
        raise DataCorrupt(f"{path} is not a whole archive: {why}") from e


def require_inside(name: str, where: str) -> None:
    """Raise DataCorrupt for a path that is absolute, or leads above the folder that it is in."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataCorrupt(f"{where} {name!r} leads out of its folder")
