"""Seeds from named axes: no result depends on the order of runs, or on an unrelated choice.

The calibration seed is ``seed_for("calib", seed, data_name)``: it does not name the method, so all
methods get the same images.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from quantbench.errors import BadInput

if TYPE_CHECKING:
    import torch


def seed_for(axis: str, seed: int, *names: str) -> int:
    """Seed of one axis of randomness, in 0 .. 2^63 - 1, the same on every machine.

    Args:
        axis: what is drawn, such as ``calib`` or ``method``.
        seed: the number that the user varies.
        names: what else the draw may depend on, and nothing more.

    Raises:
        BadInput: a seed that is not a whole number.

    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise BadInput(f"seed {seed!r}: a seed is a whole number")
    text = json.dumps([axis, seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(axis: str, seed: int, *names: str, device: str = "cpu") -> torch.Generator:
    """A torch generator seeded by :func:`seed_for`."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_for(axis, seed, *names))
