"""What every loader must hold for any bytes: an object or the project's own error, and no more."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from quantbench.errors import QuantbenchError
from tests.reliability.fuzz.loaders import Loader

LONGEST = 20  # seconds

# what would change something, and which of its arguments are the paths of that
_CHANGES = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir"), slice(1)),
    **dict.fromkeys(("os.symlink", "os.link"), slice(1, 2)),
    "os.rename": slice(2),
}

_STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")


class Watch:
    """Notices what is written outside of a folder, and what is started, in this process.

    It refuses both, and keeps them: the loader may have swallowed the refusal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen, self.on = folder.resolve(), list[str](), False
        sys.addaudithook(self._look)

    def __enter__(self) -> None:
        """Look from here on."""
        self.on = True

    def __exit__(self, *_: object) -> None:
        """Look no longer."""
        self.on = False

    def _look(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            flags = args[2] if isinstance(args[2], int) else 0
            changed = args[:1] if flags & (os.O_WRONLY | os.O_RDWR) else ()
        else:
            changed = args[_CHANGES.get(event, slice(0))]
        if event in _STARTS or any(map(self._outside, changed)):
            self.seen.append(f"{event} {args[0]!r}")
            raise PermissionError(f"not here: {self.seen[-1]}")

    def _outside(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # a descriptor
        whole = Path(os.fsdecode(path)).resolve()
        if whole == Path(os.devnull) or whole.parent.name == "__pycache__":  # of a late import
            return False
        return not whole.is_relative_to(self.folder)


@contextmanager
def in_time() -> Iterator[None]:
    """Raise TimeoutError in Python code that takes longer than :data:`LONGEST`."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {LONGEST} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def accepted(loader: Loader, content: bytes, watch: Watch) -> bool:
    """Whether the loader takes these bytes; any error that is not the project's goes through."""
    watch.seen.clear()
    try:
        return met(loader, content, watch.folder, watch)
    finally:
        assert not watch.seen, f"{loader.name}: {watch.seen}"


def met(loader: Loader, content: bytes, folder: Path, watch: Watch | None = None) -> bool:
    """The same where nobody watches, such as the first time, when libraries are imported."""
    path = folder / loader.file
    if not path.exists() or len(list(path.parent.iterdir())) > 1:  # what an earlier one left
        shutil.rmtree(folder, ignore_errors=True)
        path.parent.mkdir(parents=True)
    path.write_bytes(content)
    try:
        with watch or nullcontext():
            loader.load(path)
    except QuantbenchError:
        return False
    return True
