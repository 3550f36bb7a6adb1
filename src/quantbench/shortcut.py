"""Stand-ins for the finished modules of a network: the last one gives what is kept of it, those before it give NaN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.activations import Activations


@dataclass(frozen=True, eq=False)
class Start:
    """Where passes start.

    Attributes:
        module: gives ``kept``.
        kept: its output.
        before: modules that give NaN, by name, with the shapes of their outputs.
        model: where they are.
        blind: the network's input is not needed any more: floating-point values are NaN, too.

    """

    module: str
    kept: Activations
    before: Mapping[str, tuple[int, ...]]
    model: nn.Module
    blind: bool = True

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
            module.forward = partial(_give, unknown(kept, (kept.shape[0], *shape)))
        try:
            yield kept
        finally:
            del self.last.forward
            for module, _ in self.finished:
                del module.forward


def unknown(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """NaN of a shape that takes no memory."""
    return like.new_tensor(torch.nan).expand(shape)


def _give(value: Tensor, *_: Any, **__: Any) -> Tensor:
    """A stand-in for a module's forward."""
    return value
