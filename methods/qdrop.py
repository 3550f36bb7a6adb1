"""QDrop: randomly dropping quantization (Wei et al., ICLR 2022).

Block reconstruction as in BRECQ, with two changes. Weights and activations are learnt together, and
while they are, each activation, of the block's input or inside it, keeps its full precision with a
probability. So the rounding of the weights is fitted to a whole neighbourhood of activations, and
the loss around it is flatter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme, weight_range
from quantbench.calibration.walk import Walk
from quantbench.calibration.weight_ranges import round_to_nearest
from quantbench.optimization.adam import Adam
from quantbench.optimization.descent import Descent, Part, cosine, fit
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.optimization.learnt_ranges import kept_positive
from quantbench.optimization.reconstruction import squared_error
from quantbench.optimization.soft_rounding import ACTIVATION_FUNCTIONS, Relaxation, Relaxed
from quantbench.optimization.units import Unit, mean_error, require_granularity, units, walked
from quantbench.quantization import papers
from quantbench.quantization.layers import ActQuant


@dataclass(frozen=True)
class QDrop(Method):
    """Reconstruct block after block, weights and activations together, under random dropping.

    Attributes:
        probability: share of the activation values that keep their full precision at each step; 0
            is BRECQ's objective with everything quantized, 1 leaves activations alone.
        granularity: ``layer``, ``block``, ``stage`` or ``network``.
        iterations: optimisation steps of each unit.
        lr: Adam's learning rate for the rounding.
        act_lr: Adam's learning rate for the activations' step sizes, annealed to 0 by a cosine.
        batch_size: calibration examples per step.
        lam: weight of AdaRound's regularizer.
        beta_start: first exponent of the regularizer.
        beta_end: last exponent.
        warmup: share of the steps without the regularizer.
        bfloat16: keep activations, and run convolutions and products, in bfloat16: half the memory,
            and less time where the processor has it.

    """

    name: ClassVar[str] = "qdrop"
    paper: ClassVar[Paper] = papers.QDROP

    probability: float = 0.5
    granularity: str = "block"
    iterations: int = 20_000
    lr: float = 1e-3
    act_lr: float = 4e-5
    batch_size: int = 32
    lam: float = 0.01
    beta_start: float = 20.0
    beta_end: float = 2.0
    warmup: float = 0.2
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Reject what is no probability, and an unknown granularity."""
        require_granularity(self.granularity)
        if not 0 <= self.probability <= 1:
            raise BadInput(f"qdrop: a probability of {self.probability}; choose 0 to 1")

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the base's signature
        """Without quantized activations there is nothing to drop."""
        if scheme.acts:
            return None
        return f"qdrop drops the quantization of activations, and {scheme} has none"

    def apply(self, job: Job) -> Job:
        """Unit by unit, each behind the quantized ones."""
        q = job.start()
        finished, parts = FinishedSteps(job, self), units(q, self.granularity)
        for layer in q.layers():
            round_to_nearest(q, layer, job.calib)
        q.calibrate_acts(job.calib)  # first step sizes, with weights rounded to nearest
        walk = Walk(q, job.calib, asymmetric=True, bfloat16=self.bfloat16)
        for i, (unit, acts) in enumerate(walked(q, walk, parts)):
            done = finished.load(unit.stop)
            if done is None:
                label, state = f"qdrop {unit.stop}", finished.in_progress(unit.stop)
                part = Part(unit.stop, label, i, len(parts), state)
                codes = self.learn(job, q, walk, unit, list(acts.values()), part)
                done = dict(zip(unit.layers, codes, strict=True))
                done |= {name: act.scale.detach() for name, act in acts.items()}
                finished.save(unit.stop, done)
            for name in unit.layers:
                layer = q.layer(name)
                assert layer.qparams is not None
                layer.set_codes(done[name], layer.qparams)
            for name, act in acts.items():
                act.scale.requires_grad_(False).data = done[name]
        return job.done(q)

    def learn(
        self, job: Job, q: Quantized, walk: Walk, unit: Unit, acts: list[ActQuant], part: Part
    ) -> list[Tensor]:
        """Minimise || z - z^ ||^2 + lambda f_reg over rounding and step sizes; returns codes."""
        layers = [q.layer(name) for name in unit.layers]
        fa = ACTIVATION_FUNCTIONS[unit.activation]
        target = walk.full.output_of(unit.stop, fa)
        qps = [weight_range(q, layer, walk.calib) for layer in layers]
        rounding = Relaxed([layer.original for layer in layers], qps, self.relaxation())
        optimizers: list[torch.optim.Optimizer | Adam] = [Adam(rounding.v, self.lr)]
        steps = [act.scale.requires_grad_() for act in acts]
        if steps:
            optimizers.append(torch.optim.Adam(steps, lr=self.act_lr))
        output = walk.before.repeated(unit.stop)

        def objective(batch: Tensor, progress: float) -> Tensor:
            weights, penalty = rounding.weights(progress)
            for layer, w in zip(layers, weights, strict=True):
                layer.weight = w
            for optimizer in optimizers[1:]:
                optimizer.param_groups[0]["lr"] = cosine(self.act_lr, progress)
            z_hat = fa(output(batch, self.dropped_input(walk, batch, job.rng)))
            return squared_error(z_hat, target.take(batch)) + penalty

        descent = Descent(self.iterations, self.batch_size, self.bfloat16)
        after = kept_positive(steps)
        with dropping(acts, self.probability, job.rng):
            fit(job, part, objective, len(target), optimizers, descent, after_step=after)
        codes = rounding.codes()
        for layer, c, qp in zip(layers, codes, qps, strict=True):
            layer.weight = qp.dequantize(c)
        job.log.numbers[f"objective/{unit.stop}"] = mean_error(walk, unit, target)
        return codes

    def dropped_input(self, walk: Walk, batch: Tensor, rng: torch.Generator) -> Tensor | None:
        """What the unit starts from, partly quantized; ``None`` for the network's input."""
        x, x_hat = walk.full.kept(batch), walk.before.kept(batch)
        return None if x is None or x_hat is None else drop(x_hat, x, self.probability, rng)

    def relaxation(self) -> Relaxation:
        """AdaRound's relaxation with this method's settings."""
        return Relaxation(self.lam, self.beta_start, self.beta_end, self.warmup, anneal="linear")


def drop(quantized: Tensor, full: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Each value quantized or, with the given probability, in full precision."""
    kept = torch.empty_like(full, dtype=torch.bool)  # in its layout, which the result then has
    kept.copy_(torch.rand(full.shape, generator=rng) < probability)
    return torch.where(kept, full, quantized)


@contextmanager
def dropping(acts: list[ActQuant], probability: float, rng: torch.Generator) -> Iterator[None]:
    """Activation quantizers that drop, for as long as this lasts."""

    def forward(act: ActQuant, x: Tensor) -> Tensor:
        return drop(act.qparams.fake(x), x, probability, rng)

    for act in acts:
        act.forward = partial(forward, act)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for act in acts:
            del act.forward
