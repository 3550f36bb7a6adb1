"""AdaRound: Up or Down? Adaptive Rounding for Post-Training Quantization (Nagel et al., ICML 2020).

Each layer's rounding is learnt by a continuous relaxation of its QUBO, one layer after the other. The paper's symbols:
W weight, s step, V the relaxed rounding variable, h(V) in [0, 1], x and x^ the layer's input before and after its
predecessors are quantized, f_a the activation function that follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench import parallel
from quantbench.activations import Activations
from quantbench.api import Job, Method, Paper
from quantbench.errors import BadInput
from quantbench.examplemoments import ExampleMoments, worthwhile
from quantbench.gram import learnt_layers, weight_range
from quantbench.grids import QParams, ste_round
from quantbench.layers import QuantLayer
from quantbench.reconstruct import Adam, Part, Walk, fit, layer_error
from quantbench.resume import Resume

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
        anneal: ``cosine`` (AIMET, by the paper's authors) or ``linear`` (BRECQ and others).
        warmup: share of the steps before f_reg sets in (released code).
        asymmetric: reconstruct from x^ of the quantized predecessors (eq. 25) instead of x.
        relu: include the activation function that follows (eq. 25).
        moments: where no activation function follows inside the objective, take gradients from each example's second
            moments wherever that takes less time: the same but for rounding, with no convolution in a step. They take
            (9/16 k^2 + out k) values an example, k = in * kernel size.
        relaxation: ``rectified_sigmoid`` (eq. 23), ``sigmoid``, ``temperature`` (annealed sigmoid without f_reg, as in
            classical Hopfield networks) or ``ste`` (straight-through on the weights); tables 3 and 5.
        bfloat16: keep activations, and run convolutions and products, in bfloat16: half the memory, and less time where
            the processor has it.

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
    anneal: str = "cosine"
    asymmetric: bool = True
    relu: bool = True
    moments: bool = False
    relaxation: str = "rectified_sigmoid"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Reject an unknown relaxation or schedule."""
        if self.relaxation not in ("rectified_sigmoid", "sigmoid", "temperature", "ste"):
            raise BadInput(f"relaxation {self.relaxation!r}: choose rectified_sigmoid, sigmoid, temperature or ste")
        if self.anneal not in ("cosine", "linear"):
            raise BadInput(f"anneal {self.anneal!r}: choose cosine or linear")
        if not 0 <= self.warmup < 1:
            raise BadInput(f"warmup {self.warmup}: a share of the steps, at least 0 and less than 1")

    def apply(self, job: Job) -> Job:
        """Section 3.3: layer by layer, each with the already quantized ones before it."""
        q = job.start()
        resume, walk = Resume(job, self), Walk(q, job.calib, asymmetric=self.asymmetric, bfloat16=self.bfloat16)
        layers = learnt_layers(q, walk.calib)
        for i, layer in enumerate(layers):
            name = layer.info.name
            qp = weight_range(q, layer, walk.calib)  # s is fixed before rounding is learnt
            done = resume.load(name)
            if done is None:
                walk.to(name)
                part = Part(name, f"adaround {name}", i, len(layers), resume.unfinished(name))
                codes = self.round_layer(job, layer, qp, walk, part)
                resume.save(name, {"codes": codes})
            else:
                codes = done["codes"]
            layer.set_codes(codes, qp)
        q.calibrate_acts(job.calib)
        return job.done(q)

    def activation(self, layer: QuantLayer) -> str | None:
        """Name of f_a in eq. 25."""
        return layer.info.activation if self.relu else None

    def round_layer(self, job: Job, layer: QuantLayer, qp: QParams, walk: Walk, part: Part) -> Tensor:
        """Minimise || f_a(W x) - f_a(W~ x^) ||_F^2 + lambda f_reg(V) (eq. 25); returns codes."""
        name, activation = layer.info.name, self.activation(layer)
        x_hat, target = walk.before.inputs_of(name)[0], walk.full.output_of(name, ACTIVATIONS[activation])
        quadratic = self.moments and activation is None
        quadratic = quadratic and worthwhile(layer, len(x_hat), parallel.batch_of(self.batch_size), self.iterations)
        moments = ExampleMoments(layer, x_hat, target, walk.memory) if quadratic else None
        rounding = Straight(layer.original, qp) if self.relaxation == "ste" else Relaxed([layer.original], [qp], self)

        def objective(batch: Tensor, progress: float) -> Tensor:
            (w,), penalty = rounding.weights(progress)
            if moments is not None:
                return moments.error(w, batch) + penalty
            return layer_error(layer, x_hat.take(batch), w, target.take(batch), activation) + penalty

        fit(
            job,
            part,
            objective,
            len(x_hat),
            [Adam(rounding.v, self.lr)],
            iterations=self.iterations,
            batch_size=self.batch_size,
            bfloat16=self.bfloat16,
        )
        (codes,) = rounding.codes()
        job.log.numbers[f"objective/{name}"] = mean_error(layer, x_hat, target, qp.dequantize(codes), activation)
        return codes


class Relaxed:
    """Soft-quantized weights W~ = s clip(floor(W/s) + h(V), n, p) (eq. 22) and the regularizer (eq. 24).

    The weights of all layers lie in one vector, so that each step is a handful of operations.
    """

    def __init__(self, ws: Sequence[Tensor], qps: Sequence[QParams], method: AdaRound) -> None:
        self.m = method
        self.shapes = [w.shape for w in ws]
        brackets = [qp.bracket(w) for w, qp in zip(ws, qps, strict=True)]
        self.low, self.high = _flat(low for low, _ in brackets), _flat(high for _, high in brackets)
        self.middle = _flat(qp.dequantize((low + high) / 2) for qp, (low, high) in zip(qps, brackets, strict=True))
        self.half = _flat((high - low) / 2 * qp.scale for qp, (low, high) in zip(qps, brackets, strict=True))
        codes = _flat(w / qp.scale + qp.zero for w, qp in zip(ws, qps, strict=True))
        frac = ((codes - self.low) / (self.high - self.low).clamp(min=1)).clamp(0.001, 0.999)
        stretched = (frac - GAMMA) / (ZETA - GAMMA) if method.relaxation == "rectified_sigmoid" else frac
        self.v = torch.logit(stretched).requires_grad_()  # so that h(V) starts at the fractional part of W/s

    def h(self, progress: float) -> Tensor:
        """Rectified sigmoid (eq. 23), or the plain and the annealed sigmoid of table 3."""
        if self.m.relaxation == "rectified_sigmoid":
            return (torch.sigmoid(self.v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
        temperature = self.beta(progress) / self.m.beta_start if self.m.relaxation == "temperature" else 1.0
        return torch.sigmoid(self.v / temperature)

    def beta(self, progress: float) -> float:
        """Exponent, annealed from beta_start to beta_end after the warm-up."""
        t = max(0.0, (progress - self.m.warmup) / (1 - self.m.warmup))
        left = 0.5 * (1 + math.cos(t * math.pi)) if self.m.anneal == "cosine" else 1 - t
        return self.m.beta_end + (self.m.beta_start - self.m.beta_end) * left

    def weights(self, progress: float) -> tuple[list[Tensor], Tensor]:
        """W~ of every layer, and lambda f_reg, f_reg = sum 1 - |2 h(V) - 1|^beta (eq. 24); zero during the warm-up."""
        off = progress < self.m.warmup or self.m.relaxation == "temperature"
        lam, beta = 0.0 if off else self.m.lam, self.beta(progress)
        if self.m.relaxation == "rectified_sigmoid":
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
        parts = torch.split(flat, [shape.numel() for shape in self.shapes]) if len(self.shapes) > 1 else [flat]
        return [_unflat(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]


class _Rectified(torch.autograd.Function):
    """Eq. 22 to 24 in terms of x = 2 h(V) - 1, with their derivative written out: half the operations of autograd."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, middle: Tensor, half: Tensor, lam: float, beta: float) -> tuple[Tensor, Tensor]:
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
        return torch.ops.aten.sigmoid_backward(dx, sigma).mul_(2 * (ZETA - GAMMA)), None, None, None, None


class Straight:
    """Table 5: the weights themselves are optimised through a straight-through rounding."""

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
    """All values in one vector, those of convolutions in channels-last order, in which they are used."""
    return torch.cat([(t.permute(0, 2, 3, 1) if t.dim() == 4 else t).reshape(-1) for t in tensors])


def _unflat(flat: Tensor, shape: torch.Size) -> Tensor:
    """A tensor as it was before ``_flat``."""
    if len(shape) != 4:
        return flat.view(shape)
    out, inputs, height, width = shape
    return flat.view(out, height, width, inputs).permute(0, 3, 1, 2)


@torch.no_grad()
def mean_error(
    layer: QuantLayer, x: Activations, target: Activations, w: Tensor, activation: str | None, size: int = 128
) -> float:
    """Reconstruction error over all examples with the final, rounded weights."""
    total = 0.0
    for start in range(0, len(x), size):
        part = slice(start, min(start + size, len(x)))
        total += float(layer_error(layer, x.take(part), w, target.take(part), activation)) * (part.stop - start)
    return total / len(x)
