"""Layers trained through their quantizers: reparameterized clipping and weight normalization.

Li, Dong, Wang 2020 (arXiv 1909.13144), section 2.3 and 2.4. W weight, W~ normalized weight, W^
quantized weight, alpha the clipping threshold, Pi(.) the projection onto the levels Q(1, b). Where
text and released code differ the code is followed, because the released numbers are the code's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quantbench.quantization.grids import QParams
from quantbench.quantization.levels import code_levels
from quantbench.quantization.scheme import Kind
from quantbench.quantization.straight_through import ste_round

# in the normalization: keeps a layer of equal weights finite, and is below float32's resolution
# elsewhere
EPS = 1e-8

LEAST_ALPHA = 1e-3  # a threshold that a large step sends below zero starts again here


def weight_levels(kind: Kind, bits: int) -> tuple[int, ...]:
    """Q(1, b) of weights as codes, symmetric: one bit for the sign, the rest for the magnitude; ternary at 2 bits."""
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


def rcf(x: Tensor, alpha: Tensor, levels: tuple[int, ...], *, masked: bool = True) -> Tensor:
    """Reparameterized clipping function: x^ = alpha Pi(clip(x / alpha, -1, 1)).

    d x^ / d alpha = sign(x) where |x| > alpha, else Pi(x / alpha) - x / alpha: the calibrated
    gradient, which counts the projection's error inside the range too. d x^ / d x = 1, and 0 where
    |x| > alpha if ``masked``.
    """
    clipped: Tensor = _RCF.apply(x, alpha, levels, masked)  # type: ignore[no-untyped-call]
    return clipped


class _RCF(torch.autograd.Function):
    """Both gradients written out: half the time of a training step would go into what autograd makes of them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, levels: tuple[int, ...], masked: bool
    ) -> Tensor:
        step = alpha / levels[-1]
        scaled = x / step
        codes = QParams(torch.ones_like(step), torch.zeros_like(step), levels).quantize(scaled)
        inside = scaled == scaled.clamp(levels[0], levels[-1])
        ctx.save_for_backward(
            (codes - scaled * inside).div_(levels[-1]), inside if masked else None
        )
        return codes.mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        slope, inside = ctx.saved_tensors
        return (
            grads[0] if inside is None else grads[0] * inside,
            (grads[0] * slope).sum(),
            None,
            None,
        )


class Clipped(nn.Module):
    """A layer while it is trained.

    Attributes:
        layer: with the latent weight W.
        alpha_w: the weight's threshold; ``None`` in the first and the last layer, which are merely
            rounded.
        alpha_a: the input's threshold; ``None`` where the input stays in full precision.
        unit: whether W^ keeps the scale of W~, as in the released checkpoints, instead of going
            back to that of W. In training the batch norm that follows makes both the same,
            gradients included.
        signed: whether the input has negative values.
        detached: as in :func:`normalize`.
        masked: as in :func:`rcf`, for the weight.
        weight_levels: codes of the weight.
        act_levels: codes of the input.

    """

    def __init__(self, layer: nn.Module, alpha_w: float | None, alpha_a: float | None, *, unit: bool, signed: bool,
                 detached: bool, masked: bool) -> None:  # fmt: skip
        super().__init__()
        self.layer, self.unit, self.signed, self.detached, self.masked = (
            layer,
            unit,
            signed,
            detached,
            masked,
        )
        self.weight_levels: tuple[int, ...] = ()
        self.act_levels: tuple[int, ...] = ()
        device = self.latent.device
        self.alpha_w = (
            None if alpha_w is None else nn.Parameter(torch.tensor(alpha_w, device=device))
        )
        self.alpha_a = (
            None if alpha_a is None else nn.Parameter(torch.tensor(alpha_a, device=device))
        )

    @property
    def latent(self) -> Tensor:
        """W, (out, in/groups, ...)."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Layer output with quantized weight and input."""
        with torch.no_grad():
            for alpha in (self.alpha_w, self.alpha_a):
                if alpha is not None:
                    alpha.clamp_(min=LEAST_ALPHA)
        if self.alpha_a is not None:
            x = rcf(x, self.alpha_a, self.act_levels)
        out: Tensor = torch.func.functional_call(self.layer, {"weight": self.quantized()}, (x,))
        return out

    def quantized(self) -> Tensor:
        """W^; in the first and the last layer, W rounded with a straight-through gradient."""
        if self.alpha_w is None:
            return ste_round(self.latent / self.edge_step()) * self.edge_step()
        w, scale = self.normalized()
        return scale * rcf(w, self.alpha_w, self.weight_levels, masked=self.masked)

    def normalized(self) -> tuple[Tensor, Tensor]:
        """W~ and what W^ is multiplied by."""
        w = normalize(self.latent, detached=self.detached)
        return w, torch.ones((), device=w.device) if self.unit else self.latent.detach().std()

    def edge_step(self) -> Tensor:
        """Step of the first and the last layer: the largest weight is 2^(b-1)-1 steps (released code).

        The most negative weight may be more steps below zero; a channel's span fits b bits all the
        same.
        """
        w, n = self.latent.detach().flatten(1), len(self.weight_levels) - 1
        span = (w.amax(1) - w.amin(1)).max()
        return torch.maximum(w.max() / (n // 2), span / n).clamp(
            min=torch.finfo(w.dtype).tiny * 1e8
        )

    @torch.no_grad()
    def codes(self, sign: Tensor) -> tuple[Tensor, QParams]:
        """Codes and grid of the weight after its channels have been multiplied by ``sign``, (out, 1, ...) of +-1."""
        levels = self.weight_levels
        if self.alpha_w is not None:
            w, scale = self.normalized()
            step = self.alpha_w.detach() / levels[-1]
            codes = QParams(step, torch.zeros_like(step), levels).quantize(w)
            return codes * sign, QParams(
                step * scale * torch.ones_like(sign), torch.zeros_like(sign), levels
            )
        k = (self.latent / self.edge_step()).round() * sign
        each, half = k.flatten(1), len(levels) // 2
        shift = (-each.amin(1) - half).clamp(min=0) + (half - 1 - each.amax(1)).clamp(max=0)
        zero = shift.reshape(sign.shape) + half
        return (k + zero).clamp(levels[0], levels[-1]), QParams(
            self.edge_step() * torch.ones_like(sign), zero, levels
        )
