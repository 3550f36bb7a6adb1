"""Schemes by the names that papers give them."""

from __future__ import annotations

import re

from quantbench.errors import BadInput
from quantbench.quantization.scheme import Grid, Scheme

_NAME = re.compile(r"w([2-8])(?:a([2-8]))?", re.IGNORECASE)


def scheme(name: str) -> Scheme:
    """``w8a8``: integers throughout; ``w4``: weights alone, activations in full precision.

    Weights have a symmetric grid for each output channel, activations one for each tensor between
    the smallest and the largest value seen. Everything else is said with :class:`Scheme`.

    Args:
        name: bits of weights and activations, 2 to 8.

    Raises:
        BadInput: no such name.

    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise BadInput(f"scheme {name!r}: names are such as w8a8 or w4, with 2 to 8 bits")
    weights, acts = found.groups()
    grid = Grid(int(weights), per_channel=True, range="minmax" if int(weights) == 8 else "mse")
    if acts is None:
        return Scheme(grid)
    return Scheme(grid, Grid(int(acts), symmetric=False, range="minmax"), placement="integer")
