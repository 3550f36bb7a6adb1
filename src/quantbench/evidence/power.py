"""What would decide a claim that is undecided: how many examples, or how many seeds."""

from __future__ import annotations

import math

from quantbench.evidence.seeds import Spread

MOST_SEEDS = 1000  # nobody runs more


def deciding(need: float, half: float, n: int, seeds: Spread) -> str:
    """Number of examples, or of seeds, that make the interval short enough, if the estimate stays.

    Args:
        need: half-width at which the interval no longer reaches over the end of what is allowed:
            the distance of the estimate from that end, less the rounding.
        half: that of the sampling of examples alone, on the side of this end.
        n: the examples that there are: images, sentence pairs, windows.
        seeds: the term of seeds.

    """
    if need <= 0:
        return "the estimate is too close to the end of what is allowed for any number to decide"
    if half > 0 and seeds.half < need:
        least = max(n * half**2 / (need**2 - seeds.half**2), n + 1)
        return f"about {_rounded_up(least):,} examples would decide"
    if seeds.at is not None and half < need:
        enough = (k for k in range(3, MOST_SEEDS) if math.hypot(seeds.at(k), half) < need)
        if k := next(enough, 0):
            return f"about {k} seeds would decide"
    return "examples alone never decide, nor do seeds"


def _rounded_up(number: float) -> int:
    """To two digits: the estimate is no better."""
    unit = 10 ** max(math.floor(math.log10(number)) - 1, 0) if number > 0 else 1
    return unit * math.ceil(number / unit)
