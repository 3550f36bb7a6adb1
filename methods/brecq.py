"""BRECQ: reconstruction of blocks under Fisher weights (Li et al., ICLR 2021).

The paper's symbols: z the output of a block, z^ the same with quantized weights, g the gradient of
the task loss with respect to z, whose mean square is the diagonal of the Fisher information, which
stands for the Hessian (section 3.3). Equation and table numbers are recalled: the paper's text was
not at hand. Weights are rounded by AdaRound's relaxation; then the step sizes of the activations
are learnt. Where paper and released code differ, a field says so.

The released code (yhhhli/BRECQ) quantizes what layers and blocks give: placement ``outputs`` with
``edge_acts="outputs"``. The first layer at its own bits is rounded to nearest there, and the step
behind it stays as it was found; under placement ``inputs`` its input's step is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme, weight_range
from quantbench.calibration.memory import Activations
from quantbench.calibration.walk import Walk
from quantbench.calibration.weight_ranges import learnt_layers
from quantbench.optimization.adam import Adam
from quantbench.optimization.descent import Descent, Part, cosine, fit
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.optimization.learnt_ranges import kept_positive
from quantbench.optimization.reconstruction import squared_error
from quantbench.optimization.soft_rounding import ACTIVATION_FUNCTIONS, Relaxation, Relaxed
from quantbench.optimization.units import Unit, mean_error, require_granularity, units, walked
from quantbench.quantization import papers
from quantbench.quantization.layers import ActQuant
from quantbench.system.tensors import some

CODE_BATCH = 32  # the released code averages the loss over batches of 32 before it takes gradients


@dataclass(frozen=True)
class BRECQ(Method):
    """Reconstruct block after block.

    Attributes:
        granularity: ``layer``, ``block``, ``stage`` or ``network`` (table 1). Of layers, the step
            behind a residual add belongs to none and stays as it was found.
        loss: what weights the error of an output: ``fisher``: g^2, the Fisher information of the
            full-precision network, where the paper expands the loss (eq. 10); ``mse``: nothing, as
            the released code runs; ``fisher_damped``: (|g| + 1)^2 with g the gradient of the
            divergence from full precision at the quantized network, the unit's own weights still
            at h(V) = W/s - floor(W/s), which the released code offers; ``divergence``: g^2 alone,
            with the unit's weights rounded to nearest. All but the damped one are scaled to mean 1:
            lambda keeps its meaning.
        draws: random directions per example that estimate the Fisher information.
        iterations: optimisation steps of the weights of each unit.
        lr: Adam's learning rate for them.
        batch_size: calibration examples per step.
        lam: weight of AdaRound's regularizer; 0.1 for MobileNetV2 (released code).
        beta_start: first exponent of the regularizer.
        beta_end: last exponent.
        warmup: share of the steps without the regularizer.
        act_iterations: optimisation steps of the activation step sizes of each unit.
        act_lr: Adam's learning rate for them, annealed to 0 by a cosine; 4e-4 in the released
            code's main script.
        act_p: the error of the activations is |z - z^|^p (released code: 2.4).
        range_images: calibration images that the first step sizes come from; 0 for all. The
            released code takes 64.
        range_in_turn: find each first step size behind the quantizers that run before, as the
            released code does; otherwise all at once in full precision.
        act_asymmetric: learn step sizes on the inputs that the quantized predecessors give; the
            released code uses those of the full-precision network.
        bfloat16: keep activations, and run convolutions and products, in bfloat16: half the memory,
            and less time where the processor has it.

    """

    name: ClassVar[str] = "brecq"
    paper: ClassVar[Paper] = papers.BRECQ

    granularity: str = "block"
    loss: str = "fisher"
    draws: int = 4
    iterations: int = 20_000
    lr: float = 1e-3
    batch_size: int = 32
    lam: float = 0.01
    beta_start: float = 20.0
    beta_end: float = 2.0
    warmup: float = 0.2
    act_iterations: int = 5_000
    act_lr: float = 4e-5
    act_p: float = 2.4
    range_images: int = 0
    range_in_turn: bool = False
    act_asymmetric: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Reject unknown variants."""
        require_granularity(self.granularity)
        if self.loss not in ("fisher", "mse", "fisher_damped", "divergence"):
            raise BadInput(f"loss {self.loss!r}: choose fisher, mse, fisher_damped or divergence")
        if self.draws < 1:
            raise BadInput(
                f"draws {self.draws}: the Fisher information needs at least one direction"
            )
        if self.range_images < 0:
            raise BadInput(f"brecq: ranges from {self.range_images} images; choose 0 for all")

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the base's signature
        """Fisher weights come from a classifier's prediction."""
        if self.loss == "mse" or net.model(*net.sample).dim() == 2:
            return None
        needed = f"class scores, which loss={self.loss!r} needs: choose loss='mse'"
        return f"{net.name} gives no {needed}"

    def apply(self, job: Job) -> Job:
        """Algorithm 1: weights of all units first, then activations of all units."""
        q = job.start()
        finished, parts = FinishedSteps(job, self), units(q, self.granularity)
        learnt_layers(q, job.calib)
        self.learn_weights(job, q, parts, finished)
        if q.act_quants():
            q.calibrate_acts(some(job.calib, self.range_images), in_turn=self.range_in_turn)
            self.learn_acts(job, q, parts, finished)
        return job.done(q)

    def learn_weights(
        self, job: Job, q: Quantized, parts: tuple[Unit, ...], finished: FinishedSteps
    ) -> None:
        """Round the weights of each unit behind the rounded ones."""
        walk = Walk(q, job.calib, asymmetric=True, bfloat16=self.bfloat16)
        for i, unit in enumerate(parts):
            step = f"weights-{unit.stop}"
            done = finished.load(step)
            if done is None:
                walk.to(unit.layers[0])
                label, state = f"{self.name} {unit.stop}", finished.in_progress(step)
                part = Part(unit.stop, label, i, len(parts), state)
                codes = self.round_unit(job, q, walk, unit, part)
                done = dict(zip(unit.layers, codes, strict=True))
                finished.save(step, done)
            for name in unit.layers:
                q.layer(name).set_codes(done[name], weight_range(q, q.layer(name), walk.calib))

    def round_unit(
        self, job: Job, q: Quantized, walk: Walk, unit: Unit, part: Part
    ) -> list[Tensor]:
        """Minimise E[(z - z^)^T diag(g^2) (z - z^)] + lambda f_reg; returns codes.

        Eq. 10, and AdaRound's eq. 24 for the regularizer.
        """
        layers = [q.layer(name) for name in unit.layers]
        qps = [weight_range(q, layer, walk.calib) for layer in layers]
        if self.left_alone(q, unit):
            return [qp.quantize(layer.original) for layer, qp in zip(layers, qps, strict=True)]
        fa = ACTIVATION_FUNCTIONS[unit.activation]
        target = walk.full.output_of(unit.stop, fa)
        rounding = Relaxed([layer.original for layer in layers], qps, self.relaxation())
        soft = rounding.weights(0.0)[0] if self.loss == "fisher_damped" else None
        for i, (layer, qp) in enumerate(zip(layers, qps, strict=True)):
            layer.weight = soft[i].detach() if soft else qp.fake(layer.original)
        g = None if self.loss == "mse" else self.gradients(walk, unit, job.rng)
        output = walk.before.repeated(unit.stop)

        def objective(batch: Tensor, progress: float) -> Tensor:
            weights, penalty = rounding.weights(progress)
            for layer, w in zip(layers, weights, strict=True):
                layer.weight = w
            z_hat, z = fa(output(batch)), target.take(batch)
            if g is not None:  # (z - z^)^T diag(g^2) (z - z^) = ||g z - g z^||^2
                importance = g.take(batch)
                z_hat, z = z_hat * importance, z * importance
            return squared_error(z_hat, z) + penalty  # eq. 10, and eq. 24 of AdaRound

        descent = Descent(self.iterations, self.batch_size, self.bfloat16)
        fit(job, part, objective, len(target), [Adam(rounding.v, self.lr)], descent)
        codes = rounding.codes()
        for layer, c, qp in zip(layers, codes, qps, strict=True):
            layer.weight = qp.dequantize(c)
        job.log.numbers[f"objective/{unit.stop}"] = mean_error(walk, unit, target)
        return codes

    def left_alone(self, q: Quantized, unit: Unit) -> bool:
        """The first layer at its own bits is rounded to nearest, as in the released code."""
        first = unit.stop == q.infos[0].name and self.granularity != "network"
        return first and bool(q.scheme.first_last_bits)

    def relaxation(self) -> Relaxation:
        """AdaRound's relaxation, its exponent falling linearly as in the released code."""
        return Relaxation(self.lam, self.beta_start, self.beta_end, self.warmup, anneal="linear")

    def gradients(self, walk: Walk, unit: Unit, rng: torch.Generator) -> Activations:
        """|g| of every example, (N, ...) as z is.

        For a layer on its own, z is behind the activation function that follows.
        """
        found: list[Activations] = []
        fa = ACTIVATION_FUNCTIONS[unit.activation] if unit.activation else None
        for part in walk.before.batches():
            if self.loss == "fisher":
                g = fisher(*walk.full.split(part, unit.stop, fa), self.draws, rng)
            else:
                with torch.no_grad():
                    p = F.softmax(walk.full.forward(part), 1)
                g = divergence(*walk.before.split(part, unit.stop, fa), p)
            if self.loss == "fisher_damped":
                g = g / CODE_BATCH + 1
            if not found:
                found.append(walk.memory.room(len(walk.before), g))
            found[0].append(g)
        if self.loss != "fisher_damped":
            found[0].factor = 1 / max(found[0].rms(), 1e-30)
        return found[0]

    def learn_acts(
        self, job: Job, q: Quantized, parts: tuple[Unit, ...], finished: FinishedSteps
    ) -> None:
        """Learn the step sizes of each unit's activations (Esser et al. 2020, eq. 3).

        Zero points stay.
        """
        walk = Walk(q, job.calib, asymmetric=True, bfloat16=self.bfloat16)
        for i, (unit, acts) in enumerate(walked(q, walk, parts)):
            step = f"acts-{unit.stop}"
            if unit.act and self.left_alone(q, unit):
                continue  # its step stays, too
            done = finished.load(step)
            if acts and done is None:
                label, state = f"{self.name} activations of {unit.stop}", finished.in_progress(step)
                part = Part(f"acts/{unit.stop}", label, i, len(parts), state)
                self.learn_unit_acts(job, walk, unit, list(acts.values()), part)
                done = {name: act.scale.detach() for name, act in acts.items()}
                finished.save(step, done)
            for name, act in acts.items():
                assert done is not None
                act.scale.requires_grad_(False).data = done[name]

    def learn_unit_acts(
        self, job: Job, walk: Walk, unit: Unit, acts: list[ActQuant], part: Part
    ) -> None:
        """Minimise E |z - z^|^p over step sizes."""
        after = unit.function(walk.before.model)
        target = walk.full.output_of(unit.stop, ACTIVATION_FUNCTIONS[unit.activation])
        steps = [act.scale.requires_grad_() for act in acts]  # their gradient: Esser et al., eq. 3
        optimizer = torch.optim.Adam(steps, lr=self.act_lr)
        output = walk.before.repeated(unit.stop)

        def objective(batch: Tensor, progress: float) -> Tensor:
            optimizer.param_groups[0]["lr"] = cosine(self.act_lr, progress)
            kept = None if self.act_asymmetric else walk.full.kept(batch)
            error = after(output(batch, kept)) - target.take(batch)
            return error.abs().pow(self.act_p).sum(1 if error.dim() == 4 else -1).mean()

        descent = Descent(self.act_iterations, self.batch_size, self.bfloat16)
        positive = kept_positive(steps)
        fit(job, part, objective, len(target), [optimizer], descent, after_step=positive)


def fisher(z: Tensor, logits: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """Root of the diagonal of the Fisher information at z, estimated without bias.

    g^2 = sum_y p_y (d log p_y / dz)^2.

    The information is J^T S S^T J, J = d logits / dz, S = diag(p^1/2) - p (p^1/2)^T, and the mean
    of (J^T S e)^2 over random signs e is its diagonal: one backward pass a draw, whatever the
    number of classes.
    """
    p = logits.detach().softmax(1)
    total = torch.zeros_like(z)
    for _ in range(draws):
        signs = torch.randint(0, 2, p.shape, generator=rng).to(p) * 2 - 1
        spread = p.sqrt() * signs
        direction = spread - p * spread.sum(1, keepdim=True)
        total += _gradient(logits, z, direction).square()
    return (total / draws).sqrt()


def divergence(z: Tensor, logits: Tensor, p: Tensor) -> Tensor:
    """|dL/dz|, L = KL(p || softmax(logits)) of each example; at full precision it would be zero."""
    loss = F.kl_div(F.log_softmax(logits, 1), p, reduction="sum")
    return _gradient(loss, z).abs()


def _gradient(of: Tensor, z: Tensor, direction: Tensor | None = None) -> Tensor:
    """That of an output at z; ones, which weigh all alike, where the output does not follow from z.

    So it is with a head whose output is not looked at, and where a network cuts gradients off.
    """
    found = None
    if of.requires_grad:
        found = torch.autograd.grad(of, z, direction, retain_graph=True, allow_unused=True)[0]
    return torch.ones_like(z) if found is None else found
