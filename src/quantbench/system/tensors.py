"""Tensors that travel together, and what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

Inputs = tuple[Tensor, ...]


def some(inputs: Inputs, examples: int) -> Inputs:
    """The first examples; 0 for all."""
    return tuple(t[: examples or len(t)] for t in inputs)


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, dtypes, shapes and bytes; independent of order and device."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        h.update(f"{name}:{t.dtype}:{tuple(t.shape)}".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return h.hexdigest()
