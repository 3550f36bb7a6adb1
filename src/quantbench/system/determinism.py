"""cuDNN's part in the same bits for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_cudnn() -> Iterator[None]:
    """Full float32 and one fixed algorithm in cuDNN, for as long as this lasts."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
