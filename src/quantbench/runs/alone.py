"""One process of a user at a time on what has no folder of its own to lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from quantbench.data.roots import cache_root


@contextmanager
def alone(what: str, say: Callable[[str], object] = print) -> Iterator[None]:
    """Wait until no other process works on the same thing; the system frees it with the process.

    Where the cache folder cannot be written there is no waiting: nothing else is lost by that.

    Args:
        what: the thing, such as the path of a file or the address of a server.
        say: told when there is something to wait for.

    """
    from filelock import FileLock, Timeout

    folder = cache_root() / "locks"
    lock = FileLock(folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{what}: another process is at work on it, this one waits")
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()
