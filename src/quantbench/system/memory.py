"""The most memory that a piece of work held, as Linux counts it for the whole process."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

_FORGET_THE_PEAK = "5"


def restart_peak() -> None:
    """Count the peak from now on; elsewhere than on Linux, nothing happens."""
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_THE_PEAK)


def peak_megabytes() -> float:
    """The most resident memory since :func:`restart_peak`, in MiB; 0 where nobody counts it."""
    with suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE):
            return int(found[1]) / 1024
    return 0.0
