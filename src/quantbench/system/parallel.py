"""Data-parallel work through torch.distributed (``torchrun``): each has its share of examples.

Without a process group everything here does nothing, so methods call it unconditionally.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.system.tensors import Inputs


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
        raise BadInput(
            f"{inputs[0].shape[0]} calibration examples cannot be shared by {n} processes: "
            "start fewer"
        )
    return tuple(t[dist.get_rank() : each * n : n] for t in inputs)


def batch_of(batch_size: int) -> int:
    """How many examples of a minibatch this process takes."""
    return max(1, batch_size // processes())


def average(tensors: Iterable[Tensor | None]) -> None:
    """Replace tensors, in place, by their averages over the processes; the same bits everywhere."""
    if processes() > 1:
        for t in tensors:
            if t is not None:
                dist.all_reduce(t)
                t.div_(processes())


def first() -> bool:
    """Whether this process speaks for all: it writes what all share."""
    return not _running() or dist.get_rank() == 0


def first_says(answer: bool) -> bool:
    """The first process's answer."""
    if processes() == 1:
        return answer
    said = torch.tensor([answer])
    agree([said])
    return bool(said)


def agree(tensors: Iterable[Tensor]) -> None:
    """Replace tensors, in place, by those of the first process."""
    if processes() > 1:
        for t in tensors:
            dist.broadcast(t, 0)


def join() -> None:
    """Join the processes that ``torchrun`` started, until this one ends; nothing without torchrun.

    A group is joined once: a second one under the same rendezvous could meet addresses that the
    first one left there.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched() or _running():
        return
    # each process its own; what stays on the processor goes through gloo all the same
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    atexit.register(dist.destroy_process_group)


def _running() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()
