"""Stand-ins for a network's finished modules: the last one gives what is kept of it, those before it one value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from quantbench.activations import Activations


@dataclass(frozen=True, eq=False)
class Start:
    """Where passes start.

    Attributes:
        module: gives ``kept``.
        kept: its output.
        before: modules whose output is not needed any more, by name, with the shapes of their outputs.
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
