"""AdaRound: Up or Down? Adaptive Rounding for Post-Training Quantization (Nagel et al., ICML 2020).

Each layer's rounding is learnt by a continuous relaxation of its QUBO, one layer after the other. The paper's symbols:
W weight, s step, V the relaxed rounding variable, h(V) in [0, 1], x and x^ the layer's input before and after its
predecessors are quantized, f_a the activation function that follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.api import Job, Method, Paper
from quantbench.capture import capture_input, capture_output
from quantbench.errors import BadInput
from quantbench.gram import weight_range
from quantbench.grids import QParams, ste_round
from quantbench.quantized import Quantized, QuantLayer
from quantbench.reconstruct import Resume, minimise, squared_error

ZETA, GAMMA = 1.1, -0.1  # stretch of the rectified sigmoid, section 3.2
ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {None: lambda z: z, "relu": F.relu, "relu6": F.relu6}


@dataclass(frozen=True)
class AdaRound(Method):
    """Learn for every weight whether to round it up or down.

    Attributes:
        iterations: optimisation steps per layer.
        lr: Adam's learning rate for V.
        batch_size: calibration examples per step.
        lam: lambda, weight of the regularizer in eq. 21 and 25 (released code; not in the main text).
        beta_start: first exponent of f_reg, annealed by a cosine.
        beta_end: last exponent of f_reg.
        warmup: share of the steps before f_reg sets in (released code).
        asymmetric: reconstruct from x^ of the quantized predecessors (eq. 25) instead of x.
        relu: include the activation function that follows (eq. 25).
        relaxation: ``rectified_sigmoid`` (eq. 23), ``sigmoid``, ``temperature`` (annealed sigmoid without f_reg, as in
            classical Hopfield networks) or ``ste`` (straight-through on the weights); tables 3 and 5.

    """

    name: ClassVar[str] = "adaround"
    paper: ClassVar[Paper] = Paper("Up or Down? Adaptive Rounding for Post-Training Quantization", "2004.10568", 2020)

    iterations: int = 10_000
    lr: float = 1e-3
    batch_size: int = 32
    lam: float = 0.01
    beta_start: float = 20.0
    beta_end: float = 2.0
    warmup: float = 0.2
    asymmetric: bool = True
    relu: bool = True
    relaxation: str = "rectified_sigmoid"

    def __post_init__(self) -> None:
        """Reject an unknown relaxation."""
        if self.relaxation not in ("rectified_sigmoid", "sigmoid", "temperature", "ste"):
            raise BadInput(f"relaxation {self.relaxation!r}: choose rectified_sigmoid, sigmoid, temperature or ste")

    def apply(self, job: Job) -> Job:
        """Section 3.3: layer by layer, each with the already quantized ones before it."""
        q = job.start()
        resume = Resume(job.scratch, job.rng)
        layers = list(q.layers())
        for i, layer in enumerate(layers):
            name = layer.info.name
            job.progress(i, len(layers), f"adaround {name}")
            qp = weight_range(q, layer, job.calib)  # s is fixed before rounding is learnt
            done = resume.load(name)
            codes = self.round_layer(job, q, layer, qp) if done is None else done["codes"]
            layer.set_codes(codes, qp)
            if done is None:
                resume.save(name, {"codes": codes})
        q.calibrate_acts(job.calib)
        return job.done(q)

    def round_layer(self, job: Job, q: Quantized, layer: QuantLayer, qp: QParams) -> Tensor:
        """Minimise || f_a(W x) - f_a(W~ x^) ||_F^2 + lambda f_reg(V) (eq. 25); returns codes."""
        name, fa = layer.info.name, ACTIVATIONS[layer.info.activation if self.relu else None]
        (x_hat,) = capture_input(q.model if self.asymmetric else q.net.model, name, job.calib)[:1]
        target = fa(capture_output(q.net.model, name, job.calib))
        rounding = _STE(layer.original, qp) if self.relaxation == "ste" else _Relaxed(layer.original, qp, self)

        def objective(batch: Tensor, progress: float) -> Tensor:
            w = rounding.weight(progress)
            return squared_error(fa(layer.run(x_hat[batch], w)), target[batch]) + rounding.penalty(progress)

        job.log.curves[name] = minimise(
            objective,
            x_hat.shape[0],
            [torch.optim.Adam([rounding.v], lr=self.lr)],
            iterations=self.iterations,
            batch_size=self.batch_size,
            rng=job.rng,
        )
        codes = rounding.codes()
        job.log.numbers[f"objective/{name}"] = _mean_error(layer, x_hat, target, qp.dequantize(codes), fa)
        return codes


class _Relaxed:
    """Soft-quantized weights W~ = s clip(floor(W/s) + h(V), n, p) (eq. 22) and the regularizer (eq. 24)."""

    def __init__(self, w: Tensor, qp: QParams, method: AdaRound) -> None:
        self.qp, self.m = qp, method
        self.low, self.high = qp.bracket(w)
        frac = ((w / qp.scale + qp.zero - self.low) / (self.high - self.low).clamp(min=1)).clamp(0.001, 0.999)
        stretched = (frac - GAMMA) / (ZETA - GAMMA) if method.relaxation == "rectified_sigmoid" else frac
        self.v = torch.logit(stretched).requires_grad_()  # so that h(V) starts at the fractional part of W/s

    def h(self, progress: float) -> Tensor:
        """Rectified sigmoid (eq. 23), or the plain and the annealed sigmoid of table 3."""
        if self.m.relaxation == "rectified_sigmoid":
            return (torch.sigmoid(self.v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
        temperature = self.beta(progress) / self.m.beta_start if self.m.relaxation == "temperature" else 1.0
        return torch.sigmoid(self.v / temperature)

    def weight(self, progress: float) -> Tensor:
        """W~, between its two neighbours on the grid."""
        return self.qp.dequantize(self.low + self.h(progress) * (self.high - self.low))

    def beta(self, progress: float) -> float:
        """Exponent, annealed from beta_start to beta_end by a cosine after the warm-up."""
        t = max(0.0, (progress - self.m.warmup) / (1 - self.m.warmup))
        return self.m.beta_end + (self.m.beta_start - self.m.beta_end) * 0.5 * (1 + math.cos(t * math.pi))

    def penalty(self, progress: float) -> Tensor:
        """Lambda f_reg, f_reg = sum 1 - |2 h(V) - 1|^beta (eq. 24); zero during the warm-up."""
        if progress < self.m.warmup or self.m.relaxation == "temperature":
            return torch.zeros(())
        return self.m.lam * (1 - (2 * self.h(progress) - 1).abs().pow(self.beta(progress))).sum()

    def codes(self) -> Tensor:
        """Up where h(V) is at least one half."""
        return torch.where(self.h(1.0).detach() >= 0.5, self.high, self.low)


class _STE:
    """Table 5: the weights themselves are optimised through a straight-through rounding."""

    def __init__(self, w: Tensor, qp: QParams) -> None:
        self.qp = qp
        self.v = w.detach().clone().requires_grad_()

    def weight(self, progress: float) -> Tensor:  # noqa: ARG002 - same signature as the relaxation
        """Nearest level, gradient straight through."""
        qp = self.qp
        codes = (ste_round(self.v / qp.scale) + qp.zero).clamp(qp.levels[0], qp.levels[-1])
        return qp.dequantize(codes) if qp.uniform else qp.fake(self.v)

    def penalty(self, progress: float) -> Tensor:  # noqa: ARG002 - same signature as the relaxation
        """No regularizer."""
        return torch.zeros(())

    def codes(self) -> Tensor:
        """Nearest codes of the moved weights."""
        return self.qp.quantize(self.v.detach())


@torch.no_grad()
def _mean_error(
    layer: QuantLayer, x: Tensor, target: Tensor, w: Tensor, fa: Callable[[Tensor], Tensor], size: int = 128
) -> float:
    """Reconstruction error over all examples with the final, rounded weights."""
    total = 0.0
    for start in range(0, x.shape[0], size):
        part = slice(start, start + size)
        total += float(squared_error(fa(layer.run(x[part], w)), target[part])) * x[part].shape[0]
    return total / x.shape[0]
