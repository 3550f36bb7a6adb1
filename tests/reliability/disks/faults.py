"""Writes of this process that the system refuses: the k-th alone, or the k-th and all after it."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

FULL, READ_ONLY = errno.ENOSPC, errno.EROFS


@dataclass
class Faults:
    """Counts what changes files below a folder, and refuses some of it.

    What changes files is opening one to write, making a folder, renaming, flushing to the disk and
    reserving room. A full disk refuses the k-th of these alone, as when room is made meanwhile; a
    disk that became read-only refuses that and all that follow.

    Attributes:
        folder: below which.
        at: number of the first that is refused, from 1; 0 for none.
        error: ``FULL`` or ``READ_ONLY``.
        seen: what there was, in order: kind and path.
        refused: the path that was refused first.

    """

    folder: Path
    at: int = 0
    error: int = FULL
    seen: list[tuple[str, str]] = field(default_factory=list)
    refused: str = ""

    def install(self) -> None:
        """From now on, until the process ends."""
        sys.addaudithook(self._look)
        own = os.fsync, os.posix_fallocate

        def fsync(file: int) -> None:
            self._meet("fsync", _path(file))
            own[0](file)

        def posix_fallocate(file: int, start: int, size: int) -> None:
            self._meet("reserve", _path(file))
            own[1](file, start, size)

        os.fsync, os.posix_fallocate = fsync, posix_fallocate

    def _look(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            self._meet("open", args[0])
        elif event == "os.mkdir":
            self._meet("mkdir", args[0])
        elif event == "os.rename":
            self._meet("rename", args[1])

    def _meet(self, kind: str, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor, whose opening was counted
        whole = Path.cwd() / os.fsdecode(path)
        if not whole.is_relative_to(self.folder) or (kind == "mkdir" and whole.is_dir()):
            return
        self.seen.append((kind, str(whole.relative_to(self.folder))))
        number = len(self.seen)
        if self.at and (number == self.at or (number > self.at and self.error == READ_ONLY)):
            self.refused = self.refused or self.seen[-1][1]
            raise OSError(self.error, os.strerror(self.error), str(path))


def _path(file: int) -> str:
    return str(Path(f"/proc/self/fd/{file}").readlink())
