"""QDrop: randomly dropping quantization (Wei et al., ICLR 2022).

Block reconstruction as in BRECQ, with two changes. Weights and activations are learnt together, and
while they are, each activation, of the block's input or inside it, keeps its full precision with a
probability. So the rounding of the weights is fitted to a whole neighbourhood of activations, and
the loss around it is flatter.

The paper quantizes what layers and blocks give: placement ``outputs``. Then a block's input comes
quantized, and is dropped by the mixture alone. Under ``inputs``, where the block's own quantizers
read it, they keep the values that the mixture kept: nothing is dropped twice. Against the released
code (wimh966/QDrop, ``qdrop/solver``) ranges are searched among 80 clippings of both ends at once,
as BRECQ's are, instead of 100, which for signed values there are for each zero point.
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
from quantbench.calibration.weight_ranges import learnt_layers, round_to_nearest
from quantbench.optimization.adam import Adam
from quantbench.optimization.descent import Descent, Part, cosine, fit
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.optimization.learnt_ranges import kept_positive, with_lsq_gradient
from quantbench.optimization.reconstruction import squared_error
from quantbench.optimization.soft_rounding import ACTIVATION_FUNCTIONS, Relaxation, Relaxed
from quantbench.optimization.units import Unit, mean_error, require_granularity, units, walked
from quantbench.quantization import papers
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.straight_through import fake_unless
from quantbench.system.tensors import some


@dataclass(frozen=True)
class QDrop(Method):
    """Reconstruct block after block, weights and activations together, under random dropping.

    Attributes:
        probability: share of the activation values that keep their full precision at each step; 0
            is BRECQ's objective with everything quantized, 1 leaves activations alone.
        granularity: ``layer``, ``block``, ``stage`` or ``network``. Of layers, the step behind a
            residual add belongs to none and stays as it was found (as in MQBench).
        start: weights on which the first step sizes are calibrated: ``full_precision`` (released
            code), or ``nearest``, rounded to nearest, where 2 bits make the ranges far too small.
        range_images: calibration images that these step sizes come from; 0 for all. The released
            code takes 256.
        lsq_gradient: step sizes get LSQ's smaller gradient (released code; MQBench has the plain
            one). Adam divides it out again, but for its 1e-8.
        iterations: optimisation steps of each unit.
        lr: Adam's learning rate for the rounding.
        act_lr: Adam's learning rate for the activations' step sizes, annealed to 0 by a cosine.
        batch_size: calibration examples per step, drawn without replacement; the released code
            draws with it.
        lam: weight of AdaRound's regularizer; 0.1 for MobileNetV2 and 0.2 for MNASNet (released
            code).
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
    start: str = "full_precision"
    range_images: int = 0
    lsq_gradient: bool = False
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
        if self.start not in ("full_precision", "nearest"):
            raise BadInput(f"qdrop: start {self.start!r}; choose full_precision or nearest")
        if self.range_images < 0:
            raise BadInput(f"qdrop: ranges from {self.range_images} images; choose 0 for all")

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the base's signature
        """Without quantized activations there is nothing to drop."""
        if scheme.acts:
            return None
        return f"qdrop drops the quantization of activations, and {scheme} has none"

    def apply(self, job: Job) -> Job:
        """Unit by unit, each behind the quantized ones."""
        q = job.start()
        finished, parts = FinishedSteps(job, self), units(q, self.granularity)
        for layer in q.layers() if self.start == "nearest" else ():
            round_to_nearest(q, layer, job.calib)
        q.calibrate_acts(some(job.calib, self.range_images))  # first step sizes
        learnt_layers(q, job.calib)
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
                layer.set_codes(done[name], weight_range(q, layer, walk.calib))
            for name, act in acts.items():
                act.scale.requires_grad_(False).data = done[name]
        return job.done(q)

    def learn(
        self, job: Job, q: Quantized, walk: Walk, unit: Unit, acts: list[ActQuant], part: Part
    ) -> list[Tensor]:
        """Minimise || z - z^ ||^2 + lambda f_reg over rounding and step sizes; returns codes."""
        layers = [q.layer(name) for name in unit.layers]
        after = unit.function(q.model)
        target = walk.full.output_of(unit.stop, ACTIVATION_FUNCTIONS[unit.activation])
        qps = [weight_range(q, layer, walk.calib) for layer in layers]
        rounding = Relaxed([layer.original for layer in layers], qps, self.relaxation())
        optimizers: list[torch.optim.Optimizer | Adam] = [Adam(rounding.v, self.lr)]
        steps = [act.scale.requires_grad_() for act in acts]
        if steps:
            optimizers.append(torch.optim.Adam(steps, lr=self.act_lr))
        output = walk.before.repeated(unit.stop)
        drops = Drops(self.probability, job.rng, lsq_gradient=self.lsq_gradient)

        def objective(batch: Tensor, progress: float) -> Tensor:
            weights, penalty = rounding.weights(progress)
            for layer, w in zip(layers, weights, strict=True):
                layer.weight = w
            for optimizer in optimizers[1:]:
                optimizer.param_groups[0]["lr"] = cosine(self.act_lr, progress)
            x, x_hat = walk.full.kept(batch), walk.before.kept(batch)
            mixed = None if x is None or x_hat is None else drops.mixed(x_hat, x)
            z_hat = after(output(batch, mixed))
            return squared_error(z_hat, target.take(batch)) + penalty

        descent = Descent(self.iterations, self.batch_size, self.bfloat16)
        positive = kept_positive(steps)
        with drops.within(acts):
            fit(job, part, objective, len(target), optimizers, descent, after_step=positive)
        codes = rounding.codes()
        for layer, c, qp in zip(layers, codes, qps, strict=True):
            layer.weight = qp.dequantize(c)
        job.log.numbers[f"objective/{unit.stop}"] = mean_error(walk, unit, target)
        return codes

    def relaxation(self) -> Relaxation:
        """AdaRound's relaxation with this method's settings."""
        return Relaxation(self.lam, self.beta_start, self.beta_end, self.warmup, anneal="linear")


class Drops:
    """Which activation values keep their full precision, drawn anew at every use."""

    def __init__(
        self, probability: float, rng: torch.Generator, *, lsq_gradient: bool = False
    ) -> None:
        self.probability, self.rng, self.lsq_gradient = probability, rng, lsq_gradient
        self._input: tuple[Tensor, Tensor] | None = None

    def kept(self, like: Tensor) -> Tensor:
        """A mask of 0 and 1 in a tensor's type, shape and memory layout."""
        drawn = torch.empty_like(like, device=self.rng.device, dtype=torch.float32)
        return drawn.uniform_(generator=self.rng).lt_(self.probability).to(like)

    def mixed(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """What a unit starts from: behind quantized predecessors or, where kept, full precision."""
        kept = self.kept(x)
        mixed = (x_hat * (1 - kept)).addcmul_(x, kept)
        self._input = mixed, kept
        return mixed

    def quantized(self, act: ActQuant, x: Tensor) -> Tensor:
        """Quantized where not kept; a unit's input has been drawn already."""
        once = self._input is not None and x is self._input[0]
        kept = self._input[1] if once and self._input else self.kept(x)
        qp = with_lsq_gradient(act.qparams, x.numel()) if self.lsq_gradient else act.qparams
        if qp.uniform:
            return fake_unless(kept, x, qp.scale, qp.zero, qp.levels[0], qp.levels[-1])
        return kept * x + (1 - kept) * qp.fake(x)

    @contextmanager
    def within(self, acts: list[ActQuant]) -> Iterator[None]:
        """Activation quantizers that drop, for as long as this lasts."""
        for act in acts:
            act.forward = partial(self.quantized, act)  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._input = None
            for act in acts:
                del act.forward
