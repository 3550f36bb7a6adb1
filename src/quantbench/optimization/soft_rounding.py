"""Rounding as a continuous variable between the two neighbouring codes of each weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.network.activation_functions import Bounds
from quantbench.quantization.grids import QParams
from quantbench.quantization.straight_through import ste_round

ZETA, GAMMA = 1.1, -0.1  # stretch of the rectified sigmoid, section 3.2 of AdaRound


class _Functions(dict[str | None, Callable[[Tensor], Tensor]]):
    """Activation functions by name; bounds per channel stand for themselves."""

    def __getitem__(self, key: str | Bounds | None) -> Callable[[Tensor], Tensor]:
        return key if isinstance(key, Bounds) else super().__getitem__(key)


ACTIVATION_FUNCTIONS = _Functions({None: lambda z: z, "relu": F.relu, "relu6": F.relu6})


@dataclass(frozen=True)
class Relaxation:
    """How rounding is relaxed, and how the regularizer drives it back to up or down.

    Attributes:
        lam: lambda, weight of the regularizer.
        beta_start: first exponent of f_reg.
        beta_end: last exponent of f_reg.
        warmup: share of the steps before f_reg sets in.
        anneal: of the exponent, ``cosine`` or ``linear``.
        kind: ``rectified_sigmoid``, ``sigmoid`` or ``temperature``.

    """

    lam: float
    beta_start: float
    beta_end: float
    warmup: float
    anneal: str
    kind: str = "rectified_sigmoid"


SHOWN = 100  # values of h(V) that a layer keeps for a figure


class Relaxed:
    """Soft-quantized W~ = s clip(floor(W/s) + h(V), n, p) (eq. 22) and its regularizer (eq. 24).

    The weights of all layers lie in one vector, so that each step is a handful of operations.
    """

    def __init__(self, ws: Sequence[Tensor], qps: Sequence[QParams], how: Relaxation) -> None:
        self.how = how
        self.shapes = [w.shape for w in ws]
        brackets = [qp.bracket(w) for w, qp in zip(ws, qps, strict=True)]
        both = list(zip(qps, brackets, strict=True))
        self.low = _flat(low for low, _ in brackets)  # floor(W/s), or the next level below
        self.high = _flat(high for _, high in brackets)
        # W~ is middle + half (2 h(V) - 1), whatever the levels are
        self.middle = _flat(qp.dequantize((low + high) / 2) for qp, (low, high) in both)
        self.half = _flat((high - low) / 2 * qp.scale for qp, (low, high) in both)
        codes = _flat(w / qp.scale + qp.zero for w, qp in zip(ws, qps, strict=True))
        frac = ((codes - self.low) / (self.high - self.low).clamp(min=1)).clamp(0.001, 0.999)
        stretched = (frac - GAMMA) / (ZETA - GAMMA) if how.kind == "rectified_sigmoid" else frac
        # so that h(V) starts at the fractional part of W/s
        self.v = torch.logit(stretched).requires_grad_()

    def h(self, progress: float) -> Tensor:
        """Rectified sigmoid (eq. 23), or the plain and the annealed sigmoid of table 3.

        For the annealed one the paper gives no schedule. Here the temperature follows beta: 1 in
        the warm-up, then down to beta_end / beta_start, 0.1 with the defaults. A Hopfield network
        is binary in the limit of 0; what is left between up and down is rounded at the end.
        """
        if self.how.kind == "rectified_sigmoid":
            return (torch.sigmoid(self.v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
        annealed = self.how.kind == "temperature"
        temperature = self.beta(progress) / self.how.beta_start if annealed else 1.0
        return torch.sigmoid(self.v / temperature)

    def shown(self, progress: float) -> list[float]:
        """h(V) of some weights, evenly spread, as the paper's figure 3 shows it."""
        h = self.h(progress).detach()
        spread = torch.linspace(0, len(h) - 1, min(SHOWN, len(h)), device=h.device).long()
        return [round(v, 3) for v in h[spread].tolist()]

    def beta(self, progress: float) -> float:
        """Exponent, annealed from beta_start to beta_end after the warm-up."""
        t = max(0.0, (progress - self.how.warmup) / (1 - self.how.warmup))
        left = 0.5 * (1 + math.cos(t * math.pi)) if self.how.anneal == "cosine" else 1 - t
        return self.how.beta_end + (self.how.beta_start - self.how.beta_end) * left

    def weights(self, progress: float) -> tuple[list[Tensor], Tensor]:
        """W~ of every layer, and lambda f_reg, which is zero during the warm-up.

        f_reg = sum 1 - |2 h(V) - 1|^beta (eq. 24).
        """
        off = progress < self.how.warmup or self.how.kind == "temperature"
        lam, beta = 0.0 if off else self.how.lam, self.beta(progress)
        if self.how.kind == "rectified_sigmoid":
            w, penalty = _Rectified.apply(self.v, self.middle, self.half, lam, beta)
        else:
            x = 2 * self.h(progress) - 1
            w, penalty = self.middle + self.half * x, lam * (1 - x.abs().pow(beta)).sum()
        return self._split(w), penalty

    def codes(self) -> list[Tensor]:
        """Up where h(V) is at least one half."""
        return self._split(torch.where(self.h(1.0).detach() >= 0.5, self.high, self.low))

    def _split(self, flat: Tensor) -> list[Tensor]:
        """One tensor per layer, a view."""
        if len(self.shapes) == 1:  # split would cost a node of the graph
            return [_unflat(flat, self.shapes[0])]
        parts = torch.split(flat, [shape.numel() for shape in self.shapes])
        return [_unflat(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]


class _Rectified(torch.autograd.Function):
    """Eq. 22 to 24 in terms of x = 2 h(V) - 1, with their derivative written out.

    That is half the operations of autograd.
    """

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, middle: Tensor, half: Tensor, lam: float, beta: float
    ) -> tuple[Tensor, Tensor]:
        sigma = torch.sigmoid(v)
        stretched = (sigma * (2 * (ZETA - GAMMA))).add_(2 * GAMMA - 1)
        x = stretched.clamp(-1, 1)
        penalty, slope = v.new_zeros(()), None
        if lam:
            slope = x.abs().pow_(beta - 2).mul_(x)  # |x|^beta is x * slope
            penalty = lam * (v.numel() - torch.dot(slope, x))
        ctx.save_for_backward(sigma, stretched, half)
        ctx.slope, ctx.factor = slope, -lam * beta
        return torch.addcmul(middle, half, x), penalty

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        sigma, stretched, half = ctx.saved_tensors
        dx = grads[0] * half
        if ctx.slope is not None:
            dx.addcmul_(ctx.slope, grads[1] * ctx.factor)
        dx = torch.ops.aten.hardtanh_backward(dx, stretched, -1, 1)
        dv = torch.ops.aten.sigmoid_backward(dx, sigma).mul_(2 * (ZETA - GAMMA))
        return dv, None, None, None, None


class Straight:
    """Table 5: the weights themselves are optimised through a straight-through rounding.

    The objective is that of eq. 25 without f_reg, and every code of the grid may come out, not the
    two neighbours alone. Beyond the grid's ends there is no gradient. The paper gives no learning
    rate of its own; the weights' is the one of V.
    """

    def __init__(self, w: Tensor, qp: QParams) -> None:
        self.qp = qp
        self.v = w.detach().clone().requires_grad_()

    def weights(self, progress: float) -> tuple[list[Tensor], Tensor]:  # noqa: ARG002 - same signature as the relaxation
        """Nearest level, gradient straight through; no regularizer."""
        qp = self.qp
        codes = (ste_round(self.v / qp.scale) + qp.zero).clamp(qp.levels[0], qp.levels[-1])
        return [qp.dequantize(codes) if qp.uniform else qp.fake(self.v)], torch.zeros(())

    def codes(self) -> list[Tensor]:
        """Nearest codes of the moved weights."""
        return [self.qp.quantize(self.v.detach())]


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """All values in one vector.

    Those of convolutions are in channels-last order, in which they are used.
    """
    return torch.cat([(t.permute(0, 2, 3, 1) if t.dim() == 4 else t).reshape(-1) for t in tensors])


def _unflat(flat: Tensor, shape: torch.Size) -> Tensor:
    """A tensor as it was before ``_flat``."""
    if len(shape) != 4:
        return flat.view(shape)
    out, inputs, height, width = shape
    return flat.view(out, height, width, inputs).permute(0, 3, 1, 2)
