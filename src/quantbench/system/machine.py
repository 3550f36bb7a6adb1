"""The machine and the commit, as tags of results; latencies compare on one machine only."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from quantbench.errors import BadInput


@functools.cache
def torch_version() -> str:
    """Major and minor version of the installed torch, without importing it."""
    return ".".join(version("torch").split(".")[:2])


def fingerprint() -> str:
    """Processor, cores this process may use, system and torch.

    Latencies gate only where all of them are equal.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return f"{_processor()}, {cores} cores, {system}, torch {torch_version()}"


def device(name: str) -> str:
    """The name of a device that is here.

    Raises:
        BadInput: torch knows no such device, or this machine has none.

    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as e:  # unknown or absent; torch built without it
        raise BadInput(f"device {name!r} cannot be used here: {str(e).splitlines()[0]}") from e
    return name


@functools.cache  # the code of a process is what it imported, whatever is committed meanwhile
def git_commit(folder: Path) -> str:
    """Short commit of the checkout that holds ``folder``; empty outside of git.

    ``+`` follows it where files were changed.
    """
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return out.stdout.strip()


@functools.cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
