"""Fake quantization on a uniform grid, with its derivative written out.

That takes a third of the passes over memory that autograd makes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def fake(x: Tensor, scale: Tensor, zero: Tensor, first: int, last: int) -> Tensor:
    """Nearest value of the grid ``scale * (code - zero)``, code from ``first`` to ``last``.

    Ties go to the even code.

    Inside the range x passes straight through and the step gets Q(x)/s - x/s (Esser et al. 2020,
    eq. 3); outside, the step gets the clipped code and the zero point -s. Exactly at an end counts
    as inside.
    """
    found: Tensor = _Fake.apply(x, scale, zero, first, last)
    return found


def _ends(zero: Tensor, first: int, last: int) -> tuple[Any, Any]:
    """What x / scale is clamped between.

    Numbers where they can be had: between tensors a CPU takes ten times as long.
    """
    shift: Any = float(zero) if zero.numel() == 1 and zero.device.type == "cpu" else zero
    return first - shift, last - shift


class _Fake(torch.autograd.Function):
    """One mask is kept for x, and one slope where the grid itself is learnt."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, first: int, last: int) -> Tensor:
        scaled = x / scale
        low, high = _ends(zero, first, last)
        learns_x, learns_scale, learns_zero = ctx.needs_input_grad[:3]
        if not (learns_x or learns_scale or learns_zero):
            return scaled.clamp_(low, high).round_().mul_(scale)
        clipped = scaled.clamp(low, high)
        outside = clipped != scaled
        codes = clipped.round()
        slope = codes.sub(clipped.masked_fill_(outside, 0)) if learns_scale else None
        ctx.save_for_backward(outside, slope, scale)
        return codes.mul_(scale)

    @staticmethod
    def backward(
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        outside, slope, scale = ctx.saved_tensors
        learns_x, _, learns_zero = ctx.needs_input_grad[:3]
        grad, to_scale, to_zero = grads[0], None, None
        to_x = grad.masked_fill(outside, 0) if learns_x or learns_zero else None
        if slope is not None:
            to_scale = (slope * grad).sum_to_size(scale.shape)
        if learns_zero and to_x is not None:
            to_zero = scale * (to_x.sum_to_size(scale.shape) - grad.sum_to_size(scale.shape))
        return to_x if learns_x else None, to_scale, to_zero, None, None


def fake_unless(
    kept: Tensor, x: Tensor, scale: Tensor, zero: Tensor, first: int, last: int
) -> Tensor:
    """:func:`fake` where ``kept`` is 0, and x itself where it is 1.

    Masks are numbers here, and multiplied: selecting by truth values takes ten times as long.
    """
    found: Tensor = _FakeUnless.apply(kept, x, scale, zero, first, last)
    return found


class _FakeUnless(torch.autograd.Function):
    """The derivatives of ``_Fake`` and of the selection, in one."""

    @staticmethod
    def forward(
        ctx: Any, kept: Tensor, x: Tensor, scale: Tensor, zero: Tensor, first: int, last: int
    ) -> Tensor:
        scaled = x / scale
        clipped = scaled.clamp(*_ends(zero, first, last))
        inside = scaled.sub_(clipped).sign_().abs_().neg_().add_(1)
        codes, drawn = clipped.round(), 1 - kept
        slope = codes.addcmul(clipped, inside, value=-1).mul_(drawn)
        ctx.save_for_backward(torch.addcmul(kept, drawn, inside), slope, scale)
        return codes.mul_(scale).mul_(drawn).addcmul_(x, kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor | None, None, None, None]:
        passes, slope, scale = ctx.saved_tensors
        to_scale = (slope * grads[0]).sum_to_size(scale.shape) if ctx.needs_input_grad[2] else None
        return None, grads[0] * passes, to_scale, None, None, None


class _Round(torch.autograd.Function):
    """Rounding with a straight-through gradient; exact, unlike x + (round(x) - x).detach()."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return grad[0]


class _Replace(torch.autograd.Function):
    """The second argument's value with the first one's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return value

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - autograd's signature
        return grad[0], None


def ste_round(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes straight through (Bengio et al. 2013)."""
    rounded: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def ste_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp; the gradient passes straight through, beyond the ends too."""
    clamped: Tensor = _Replace.apply(x, x.detach().clamp(low, high))  # type: ignore[no-untyped-call]
    return clamped
