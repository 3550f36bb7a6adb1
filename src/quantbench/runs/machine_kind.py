"""The kind of machine that a run was made on: on one kind, the same code gives the same bits.

The name of the processor alone does not tell: torch and its libraries choose kernels by instruction
set, block them by the size of the cache, and split sums by the number of threads. Too fine a kind
only means that statistics decide instead of bits; too coarse a one would raise false alarms.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path

# of the processor's flags, those that torch, oneDNN, MKL and the native kernels choose by
FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi"),
    *("avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)

# what a user can set to have other kernels than the processor would get
OVERRIDES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES"),
)


def machine_kind(device: str = "cpu") -> str:
    """Readable, such as ``AMD EPYC, avx2 fma avx512f, L2 1024K, 2 threads, torch 2.15.0+cpu``.

    Args:
        device: on which the cell runs.

    """
    import torch

    parts = [*_processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    parts += [f"{name}={os.environ[name]}" for name in OVERRIDES if os.environ.get(name)]
    if device != "cpu":
        parts.append(f"{device} {torch.cuda.get_device_name() if device == 'cuda' else ''}".strip())
    return ", ".join(parts)


@functools.cache
def _processor() -> tuple[str, ...]:
    """Name, features and cache of the first processor, as far as the system tells."""
    cpu = Path("/proc/cpuinfo")
    told = facts(cpu.read_text(encoding="utf-8")) if cpu.exists() else {}
    flags = (told.get("flags") or told.get("Features") or "").split()
    name = told.get("model name") or platform.processor() or platform.machine()
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    size = cache.read_text(encoding="ascii").strip() if cache.exists() else ""
    known = " ".join(f for f in FEATURES if f in flags)
    return tuple(part for part in (name, known, size and f"L2 {size}") if part)


def facts(cpuinfo: str) -> Mapping[str, str]:
    """The first processor's lines of ``/proc/cpuinfo`` by name."""
    first = cpuinfo.strip().partition("\n\n")[0]
    rows = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}
