"""Stand-ins for a network's finished modules: the last one gives what is kept of it, those before it one value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.calibration.memory import Activations
from quantbench.system.tensors import Inputs


@dataclass(frozen=True, eq=False)
class Start:
    """Where passes start.

    Attributes:
        module: gives ``kept``.
        kept: its output.
        before: modules whose output is not needed any more, by name, with the shapes of their
            outputs.
        model: where they are.
        blind: nor is the network's input, where it is of floating-point numbers.
        value: what stands for all that is not needed.

    """

    module: str
    kept: Activations
    before: Mapping[str, tuple[int, ...]]
    model: nn.Module
    blind: bool = True
    value: float = math.nan

    @cached_property
    def finished(self) -> list[tuple[nn.Module, tuple[int, ...]]]:
        """The modules in ``before``."""
        return [(self.model.get_submodule(name), shape) for name, shape in self.before.items()]

    @cached_property
    def last(self) -> nn.Module:
        """The module that gives ``kept``."""
        return self.model.get_submodule(self.module)

    @contextmanager
    def __call__(self, kept: Tensor) -> Iterator[Tensor]:
        """Replace the finished modules while a pass over some examples, for which the last one gives ``kept``, runs."""
        self.last.forward = partial(_give, kept)
        for module, shape in self.finished:
            module.forward = partial(_give, filled(kept, (kept.shape[0], *shape), self.value))
        try:
            yield kept
        finally:
            del self.last.forward
            for module, _ in self.finished:
                del module.forward


def filled(like: Tensor, shape: tuple[int, ...], value: float) -> Tensor:
    """One value in a shape that takes no memory."""
    return like.new_tensor(value).expand(shape)


def _give(value: Tensor, *_: Any, **__: Any) -> Tensor:
    """A stand-in for a module's forward."""
    return value


@dataclass(frozen=True)
class Run:
    """When a module began and ended in one pass, and its output's shape without the examples.

    Modules that run more than once, or do not return one row for each example, have no shape: they
    are never skipped.
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
        whole = (
            isinstance(out, Tensor) and out.shape[:1] == inputs[0].shape[:1] and name not in runs
        )
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
