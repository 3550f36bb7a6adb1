"""When the modules of a network run, and what shape their outputs have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.network import Inputs


@dataclass(frozen=True)
class Run:
    """When a module began and ended in one pass, and its output's shape without the examples.

    Modules that run more than once, or do not return one row for each example, have no shape: they are never skipped.
    """

    begin: int
    end: int
    shape: tuple[int, ...] | None


@torch.no_grad()
def record(model: nn.Module, inputs: Inputs) -> dict[str, Run]:
    """One pass in which every module's run is noted, in order of their ends."""
    runs: dict[str, Run] = {}
    begun: dict[str, int] = {}
    clock = iter(range(2**62))

    def before(name: str, *_: Any) -> None:
        begun[name] = next(clock)

    def after(name: str, _: nn.Module, __: Any, out: Any) -> None:
        whole = isinstance(out, Tensor) and out.shape[:1] == inputs[0].shape[:1] and name not in runs
        runs[name] = Run(begun[name], next(clock), tuple(out.shape[1:]) if whole else None)

    handles = []
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(before, name)))
            handles.append(module.register_forward_hook(partial(after, name)))
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return runs
