"""The memory of the process: the most that a piece of work held, and what becomes of freed pages.

Both are of Linux and glibc; elsewhere nothing is counted, and nothing changes.
"""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

_FORGET_THE_PEAK = "5"

# of mallopt(3), and bytes or counts: the heap is never trimmed, grows by 64 MiB, and holds all
_KEEPING = {"M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**26), "M_MMAP_MAX": (-4, 0)}


def keep_freed() -> None:
    """Let the process keep the memory that it frees, for what it allocates next.

    By default glibc gives each block above 32 MiB back to the system, which clears every page of
    the next one: a fifth to a third of the time of an evaluation, whose feature maps are as large.
    The results have the same bits.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _KEEPING.values():
            mallopt(parameter, value)


def restart_peak() -> None:
    """Count the peak from now on, without what is kept; Linux alone counts."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_THE_PEAK)


def peak_megabytes() -> float:
    """The most resident memory since :func:`restart_peak`, in MiB; 0 where nobody counts it."""
    with suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE):
            return int(found[1]) / 1024
    return 0.0
