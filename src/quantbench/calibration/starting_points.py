"""Where passes may start, other than at the input, and the proof that this changes nothing.

Methods go through a network from its input to its output, and what lies behind them is final. So
the output of a finished module is kept, and later passes start there: that module gives what is
kept of it, and neither it nor anything that ended before it runs again.

Modules that ended before are still called by the network's own code, and so they get a stand-in: a
``forward`` that returns one value in the shape of their output. Nothing ahead may look at it, or
else passes have to start further back. Whether something looks is found by trial, on two examples.
The stand-ins are NaN, then 0, and the network's output must be, bit for bit, the one without
stand-ins:

* NaN goes through all arithmetic, 0 times NaN included, and differs from every number. So whatever
  computes with a stand-in is seen.
* A comparison hides it: ``NaN == 0`` is plainly false, and so is ``1 == 0``. With 0 in its place
  ``0 == 0`` is true, and a mask made like this is seen too.

The network's input is treated alike. Where something ahead reads it, such as a mask, it is given as
it is, and the finished modules alone are stood in for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.calibration.memory import Activations
from quantbench.system.tensors import Inputs

FEW = slice(0, 2)  # examples of a trial


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
    def standing_in(self, kept: Tensor) -> Iterator[None]:
        """Replace the finished modules while a pass runs.

        Args:
            kept: what the last finished module gives for the examples of the pass.

        """
        given = {self.last: kept}
        for module, shape in self.finished:
            given[module] = _filled(kept, (kept.shape[0], *shape), self.value)
        patched = {m: vars(m)["forward"] for m in given if "forward" in vars(m)}
        for module, value in given.items():
            module.forward = partial(_give, value)
        try:
            yield
        finally:
            for module in given:
                del module.forward
            for module, forward in patched.items():  # which the network itself had put there
                vars(module)["forward"] = forward

    def batch(self, inputs: Inputs, index: slice | Tensor, device: torch.device) -> Inputs:
        """Network inputs of some examples, or what stands for them."""
        return tuple(
            self._input(t, index, device)
            if self.blind and t.is_floating_point()
            else examples(t, index, device)
            for t in inputs
        )

    def _input(self, whole: Tensor, index: slice | Tensor, device: torch.device) -> Tensor:
        """A stand-in for some examples of one network input."""
        n = len(range(*index.indices(len(whole)))) if isinstance(index, slice) else len(index)
        return _filled(whole.new_empty(0, device=device), (n, *whole.shape[1:]), self.value)


def proven(start: Start, inputs: Inputs, device: torch.device) -> Start | None:
    """The start, ``blind`` or not, if it changes nothing; ``None`` if it does.

    Args:
        start: to be tried; its ``kept`` holds the first examples at least.
        inputs: the network's, of all examples.
        device: where the model is.

    """
    kept = start.kept.take(FEW)
    with replace(start, before={}).standing_in(kept):
        whole = start.model(*(examples(t, FEW, device) for t in inputs))

    def same(trial: Start) -> bool:
        with trial.standing_in(kept):
            return torch.equal(trial.model(*trial.batch(inputs, FEW, device)), whole)

    for blind in (True, False):
        try:
            if all(same(replace(start, blind=blind, value=value)) for value in (math.nan, 0.0)):
                return replace(start, blind=blind)
        except RuntimeError:  # something ahead writes into a stand-in, so it uses it
            continue
    return None


def examples(whole: Tensor, index: slice | Tensor, device: torch.device) -> Tensor:
    """Some examples of one network input, images in channels-last layout."""
    part = whole[index].to(device)
    return part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part


def _filled(like: Tensor, shape: tuple[int, ...], value: float) -> Tensor:
    """One value in a shape that takes no memory."""
    return like.new_tensor(value).expand(shape)


def _give(value: Tensor, *_: Any, **__: Any) -> Tensor:
    """A stand-in for a module's forward."""
    return value
