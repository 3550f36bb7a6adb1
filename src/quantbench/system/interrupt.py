"""An interrupt ends a command within two seconds, whatever it is in the midst of.

Python notices Ctrl-C between two of its own steps; a library may take longer for one. What is
stored survives even a kill, so a command that has not ended by itself is ended.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130  # exit code: 128 + SIGINT, as a shell has it

PATIENCE = 0.8  # seconds to end by itself

Hook = Callable[[Any], object]


@contextmanager
def ends_soon(kept: str) -> Iterator[None]:
    """Within, an interrupt ends the process after :data:`PATIENCE` at the latest.

    Args:
        kept: what is kept, in words, for whoever interrupts.

    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not where interrupts are ignored
        signal.signal(signal.SIGINT, _raise)
    hook, sys.unraisablehook = sys.unraisablehook, _quiet(sys.unraisablehook)
    args = heard, os.dup(2), kept  # pytest, within run, puts a file in the place of stderr
    threading.Thread(target=_watch, args=args, daemon=True, name="interrupt").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        if handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = hook
        told.close()  # the watcher reads the end, and leaves; not so one that was interrupted


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not while a module is imported.

    A library that is being set up in C++ may take it for a reason to abort the process; the watcher
    ends that in order.
    """
    here = frame
    while here is not None:
        if here.f_globals.get("__name__") == "importlib._bootstrap":
            return
        here = here.f_back
    signal.default_int_handler(number, frame)


def _quiet(hook: Hook) -> Hook:
    """A hook that says nothing of an interrupt.

    One that comes while a destructor or a callback runs is lost to the main thread, and Python
    prints a traceback of it; the watcher ends the process all the same.
    """

    def told(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            hook(unraisable)

    return told


def _watch(heard: socket.socket, stderr: int, kept: str) -> None:
    """Wait for an interrupt; then for the process to end, but not long."""
    with heard:
        while signals := heard.recv(16):
            if signal.SIGINT in signals:
                time.sleep(PATIENCE)
                # the main thread may hold the lock of sys.stderr
                os.write(stderr, f"quantbench: interrupted; {kept}\n".encode())
                os._exit(INTERRUPTED)
    os.close(stderr)
