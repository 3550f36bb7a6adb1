"""What the machine could do at best: int8 products and copied bytes in a second."""

from __future__ import annotations

import time

import numpy as np

# seconds of one call of the peak's loop: shorter than a time slice, much longer than a clock tick
PEAK_CALL = 1e-3


def int8_peak(seconds: float = 0.3) -> float:
    """Multiply-accumulates a second that one core can do in registers: the roof of a roofline plot.

    Raises:
        Unsupported: no native kernels on this machine.

    """
    from quantbench.integer.backends.native import products

    rounds, best, end = 1000, 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        start = time.perf_counter()
        count = products(rounds)
        took = time.perf_counter() - start
        if took < PEAK_CALL:
            rounds *= 2
        best = max(best, count / took)
    return best


def copy_rate(megabytes: int = 64, repeats: int = 5) -> float:
    """Bytes a second that a large copy reads and writes."""
    x = np.ones(megabytes << 20, np.uint8)
    y, times = np.empty_like(x), []
    for _ in range(repeats):
        start = time.perf_counter()
        np.copyto(y, x)
        times.append(time.perf_counter() - start)
    return 2 * x.size / min(times)
