"""The quantizers that APoT trains through: reparameterized clipping and weight normalization.

Li, Dong, Wang 2020 (arXiv 1909.13144), section 2.3 and 2.4. W weight, W~ normalized weight, W^
quantized weight, alpha the clipping threshold, Pi(.) the projection onto the levels Q(1, b). Where
text and released code differ the code is followed, because the released numbers are the code's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quantbench.quantization.grids import QParams
from quantbench.quantization.levels import code_levels
from quantbench.quantization.scheme import Kind

# in the normalization: keeps a layer of equal weights finite, and is below float32's resolution
# elsewhere
EPS = 1e-8


def weight_levels(kind: Kind, bits: int) -> tuple[int, ...]:
    """Q(1, b) of weights as codes: a sign bit and a magnitude, so symmetric; 2 bits are ternary."""
    if kind != "uniform":
        return code_levels(kind, bits, signed=True)
    largest = 2 ** (bits - 1) - 1
    return tuple(range(-largest, largest + 1))


def normalize(w: Tensor, *, detached: bool) -> Tensor:
    """Weight normalization: W~ = (W - mu) / (sigma + eps) over the whole tensor.

    Args:
        w: any shape.
        detached: mu and sigma are constants to the gradient (released CIFAR code), or are
            differentiated (ImageNet's).

    """
    mu, sigma = w.mean(), w.std()
    if detached:
        mu, sigma = mu.detach(), sigma.detach()
    return (w - mu) / (sigma + EPS)


def rcf(
    x: Tensor,
    alpha: Tensor,
    levels: tuple[int, ...],
    *,
    masked: bool = True,
    calibrated: bool = True,
) -> Tensor:
    """Reparameterized clipping function: x^ = alpha Pi(clip(x / alpha, -1, 1)).

    d x^ / d alpha = sign(x) where |x| > alpha, else Pi(x / alpha) - x / alpha: the calibrated
    gradient, which counts the projection's error inside the range too; 0 there if not
    ``calibrated``, as in PACT (Choi et al. 2018), which projects what was clipped before.
    d x^ / d x = 1, and 0 where |x| > alpha if ``masked``.
    """
    clipped: Tensor = _RCF.apply(x, alpha, levels, masked, calibrated)  # type: ignore[no-untyped-call]
    return clipped


class _RCF(torch.autograd.Function):
    """Both gradients written out: what autograd makes of them takes half of a training step."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        alpha: Tensor,
        levels: tuple[int, ...],
        masked: bool,
        calibrated: bool,
    ) -> Tensor:
        step = alpha / levels[-1]
        scaled = x / step
        codes = QParams(torch.ones_like(step), torch.zeros_like(step), levels).quantize(scaled)
        inside = scaled == scaled.clamp(levels[0], levels[-1])
        # of x^ by alpha
        slope = codes - scaled * inside if calibrated else codes.masked_fill(inside, 0)
        slope = slope.div_(levels[-1])
        ctx.save_for_backward(slope, inside if masked else None)
        return codes.mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        slope, inside = ctx.saved_tensors
        by_x = grads[0] if inside is None else grads[0] * inside
        return by_x, (grads[0] * slope).sum(), None, None, None
