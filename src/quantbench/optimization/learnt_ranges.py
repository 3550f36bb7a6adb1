"""Ranges of grids that can be learnt, and how a descent that jumps between levels ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from quantbench.quantization.grids import QParams
from quantbench.quantization.straight_through import ste_clamp, ste_round

# of a step's first value: what is left of one that the optimiser would take below zero
SMALLEST = 1e-3

CHECKS = 10  # states looked at on the way; each look costs a forward pass over the calibration set


class Range:
    """A grid whose range can be learnt, by its length and its lower end.

    Both are in the data's unit (AdaQuant's code). The range has 0 in it, so that the zero point is
    a code: what an optimizer takes out of it comes back by :meth:`within`, to be called after each
    of its steps. A lower end that stayed beyond 0 would get no gradient any more; in the released
    code it does, for good.
    """

    def __init__(self, qp: QParams, *, symmetric: bool) -> None:
        self.levels, self.symmetric = qp.levels, symmetric
        self.span = qp.levels[-1] - qp.levels[0]
        self.length = (qp.scale * self.span).detach().clone().requires_grad_()
        self.low = (qp.scale * (qp.levels[0] - qp.zero)).detach().clone()
        self.learnt = [self.length] if symmetric else [self.length, self.low.requires_grad_()]
        self.smallest = self.length.detach() * SMALLEST

    @property
    def qparams(self) -> QParams:
        """The grid at present.

        Gradients reach the length through the step, and the lower end through the zero point.
        """
        scale = torch.maximum(self.length, self.smallest) / self.span
        if self.symmetric:
            return QParams(scale, torch.zeros_like(scale), self.levels)
        zero = self.levels[0] - ste_round(self.low / scale)
        first, last = float(self.levels[0]), float(self.levels[-1])
        # not clamp, which has no gradient at its ends, where the zero point of what is never
        # negative begins
        return QParams(scale, ste_clamp(zero, first, last), self.levels)

    @torch.no_grad()
    def within(self) -> None:
        """Move the lower end back to where the range has 0 in it."""
        if not self.symmetric:
            self.low.copy_(torch.maximum(self.low.clamp(max=0), -self.length))

    def fake(self, x: Tensor) -> Tensor:
        """Nearest representable value."""
        return self.qparams.fake(x)


def kept_positive(scales: Sequence[Tensor]) -> Callable[[int], None]:
    """What to call after each step of an optimiser that learns these scales in place."""
    least = [s.detach() * SMALLEST for s in scales]

    @torch.no_grad()
    def after_step(_: int) -> None:
        for s, smallest in zip(scales, least, strict=True):
            s.copy_(torch.maximum(s, smallest))

    return after_step


def with_lsq_gradient(qp: QParams, values: int) -> QParams:
    """The same grid, through which its step gets LSQ's smaller gradient.

    That is 1 / sqrt(values * largest code) of it (Esser et al. 2020, section 2.2), for a step that
    quantizes so many values at a time.
    """
    step = qp.scale.view_as(qp.scale)
    if step.requires_grad:
        factor = 1 / math.sqrt(values * max(1, qp.levels[-1]))
        step.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]
    return QParams(step, qp.zero, qp.levels)


class Settle:
    """Ends a descent whose parameters keep jumping between levels.

    It goes slower and slower, and ends with the best state seen.

    Straight-through gradients do not vanish at a minimum, so the last state of a descent is no
    better than others and may be worse than the first. Called after every step: learning rates fall
    to 0 by a cosine, and ten times on the way the error over all examples is measured, as it is for
    the first state.

    Args:
        optimizers: whose learning rates fall and whose parameters :meth:`restore` sets.
        iterations: steps of the whole descent.
        error: error of the current parameters over all examples.

    """

    def __init__(
        self, optimizers: Sequence[Optimizer], iterations: int, error: Callable[[], float]
    ) -> None:
        self.groups = [group for o in optimizers for group in o.param_groups]
        self.first = [group["lr"] for group in self.groups]
        self.parameters: list[Tensor] = [p for group in self.groups for p in group["params"]]
        self.iterations, self.error, self.every = iterations, error, max(1, iterations // CHECKS)
        self.least, self.kept = error(), [p.detach().clone() for p in self.parameters]

    def __call__(self, step: int) -> None:
        """Take note of a finished step."""
        for group, lr in zip(self.groups, self.first, strict=True):
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (step + 1) / self.iterations))
        if (step + 1) % self.every == 0 or step + 1 == self.iterations:
            found = self.error()
            if found < self.least:
                self.least, self.kept = found, [p.detach().clone() for p in self.parameters]

    def restore(self) -> None:
        """Go back to the best state."""
        for p, kept in zip(self.parameters, self.kept, strict=True):
            p.data.copy_(kept)
