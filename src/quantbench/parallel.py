"""Data-parallel work through torch.distributed: every process holds its share of the examples (``torchrun``).

Without a process group everything here does nothing, so methods call it unconditionally.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.network import Inputs


def processes() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if _running() else 1


def share(inputs: Inputs) -> Inputs:
    """This process's part of the examples: every n-th one; all parts have the same size.

    Raises:
        BadInput: there are fewer examples than processes.

    """
    n = processes()
    if n == 1:
        return inputs
    each = inputs[0].shape[0] // n
    if not each:
        raise BadInput(f"{inputs[0].shape[0]} calibration examples cannot be shared by {n} processes: start fewer")
    return tuple(t[dist.get_rank() : each * n : n] for t in inputs)


def average(tensors: Iterable[Tensor | None]) -> None:
    """Replace tensors, in place, by their averages over the processes; the same bits everywhere."""
    if processes() > 1:
        for t in tensors:
            if t is not None:
                dist.all_reduce(t)
                t.div_(processes())


def agree(tensors: Iterable[Tensor]) -> None:
    """Replace tensors, in place, by those of the first process."""
    if processes() > 1:
        for t in tensors:
            dist.broadcast(t, 0)


@contextmanager
def group() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for as long as this lasts; nothing without torchrun."""
    if not dist.is_available() or not dist.is_torchelastic_launched() or _running():
        yield
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _running() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()
