"""Files that are whole or absent, and a folder that one run at a time works on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quantbench.errors import CannotWrite, QuantbenchError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs off a folder; the system frees the lock however the process ends.

    Raises:
        QuantbenchError: another run has it, named by its process id; or the folder cannot be
            written.

    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    except OSError as e:
        raise CannotWrite(
            f"cannot write in {folder}: {e.strerror}; choose a folder that you may write in"
        ) from e
    with file:
        try:
            # Record locks, unlike flock's, are not inherited by workers that outlive a killed run.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            file.seek(0)
            raise QuantbenchError(
                f"another run ({file.read().strip() or 'just starting'}) is working on {folder}: "
                "wait until it ends, or give this one another folder"
            ) from e
        with suppress(OSError):  # on a full disk the lock holds all the same, without a name
            file.truncate(0)
            file.write(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
            file.flush()
        for half_written in folder.glob(".*.tmp"):
            half_written.unlink(missing_ok=True)
        yield


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is then whole or as it was before, also when the machine stops.

    Raises:
        CannotWrite: the system refuses, for instance because the disk is full.

    """
    aside = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as e:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise CannotWrite(
            f"cannot write {path}: {e.strerror}. "
            "Nothing that was stored is lost; make room and run the same again"
        ) from e
