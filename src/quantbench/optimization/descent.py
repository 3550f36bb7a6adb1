"""The optimisation loop behind AdaRound, BRECQ, QDrop and AdaQuant, and what it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from quantbench.errors import BadInput
from quantbench.optimization.adam import Adam
from quantbench.optimization.step_in_progress import StepInProgress
from quantbench.quantization.method import Job
from quantbench.system import parallel


class Part(NamedTuple):
    """One of several equal parts of a job, such as a layer or a block.

    Attributes:
        name: of its curve in the job's log.
        label: what the progress calls it.
        number: from 0.
        of: how many there are.
        state: where its state is kept while it is under way; ``None`` to keep nothing.

    """

    name: str
    label: str
    number: int
    of: int
    state: StepInProgress | None = None


@dataclass(frozen=True)
class Descent:
    """How long a minimisation goes on, and what one of its steps works on.

    Attributes:
        iterations: number of steps.
        batch_size: examples per step.
        bfloat16: run convolutions and products of the objective in bfloat16.

    """

    iterations: int
    batch_size: int
    bfloat16: bool = False


# (example indices, progress in [0, 1)) -> scalar loss
Objective = Callable[[Tensor, float], Tensor]

LOGGED_POINTS = 50


def minimise(
    objective: Objective,
    examples: int,
    optimizers: Sequence[Optimizer | Adam],
    *,
    iterations: int,
    batch_size: int,
    rng: torch.Generator,
    after_step: Callable[[int], None] | None = None,
    report: Callable[[int, float], None] | None = None,
    bfloat16: bool = False,
    state: StepInProgress | None = None,
) -> list[float]:
    """Minibatch descent with batches drawn from an explicit generator.

    In a process group every process draws its part of the batch from its own examples, and
    gradients are averaged.

    Args:
        objective: loss of a batch of example indices.
        examples: number of examples to draw from.
        optimizers: stepped together after each backward pass.
        iterations: number of steps.
        batch_size: examples per step, drawn without replacement; all of them when there are fewer.
        rng: generator on the CPU.
        after_step: called with the step's number, for schedules.
        report: called with the number of finished steps and the loss, about 50 times.
        bfloat16: run convolutions and products of the objective in bfloat16.
        state: where it is kept every few minutes, and gone on from; not what ``after_step``
            remembers.

    Returns:
        The loss at about 50 evenly spaced steps.

    Raises:
        BadInput: the loss is not finite.

    """
    start, curve = (0, []) if state is None else state.load(rng, optimizers)
    every = max(1, iterations // LOGGED_POINTS)
    own_batch = parallel.batch_of(batch_size)
    for i in range(start, iterations):
        batch = torch.randperm(examples, generator=rng)[:own_batch]
        loss = _step(objective, batch, i / iterations, optimizers, bfloat16=bfloat16)
        if after_step is not None:
            after_step(i)
        if i % every == 0 or i == iterations - 1:
            curve.append(_finite(loss, i))
            if report is not None:
                report(i + 1, curve[-1])
        if state is not None:
            state.save(i + 1, curve, rng, optimizers)
    return curve


def _step(
    objective: Objective,
    batch: Tensor,
    progress: float,
    optimizers: Sequence[Optimizer | Adam],
    *,
    bfloat16: bool,
) -> Tensor:
    """One step of all optimizers; returns the loss before it."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    device = optimizers[0].param_groups[0]["params"][0].device.type
    with torch.autocast(device, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        loss = objective(batch, progress)
    loss.backward()  # type: ignore[no-untyped-call]
    parallel.average(
        p.grad for o in optimizers for group in o.param_groups for p in group["params"]
    )
    for optimizer in optimizers:
        optimizer.step()
    return loss


def _finite(loss: Tensor, step: int) -> float:
    """A loss as a number; an error where it is none."""
    value = float(loss.detach())
    if not math.isfinite(value):
        way = (
            "lower the learning rate"
            if step
            else "nothing has been learnt yet, so the network's output or its gradient is not "
            "finite for some example, as that of a root is at 0"
        )
        raise BadInput(f"the reconstruction loss is {value} at step {step}: {way}")
    return value


def fit(
    job: Job,
    part: Part,
    objective: Objective,
    examples: int,
    optimizers: Sequence[Optimizer | Adam],
    descent: Descent,
    *,
    after_step: Callable[[int], None] | None = None,
) -> None:
    """:func:`minimise` as one of several equal parts of a job.

    Its curve is logged, and its progress counts all parts.

    Args:
        job: gives the generator, and is told.
        part: its names, which one of how many it is, and where its state is kept.
        objective: see :func:`minimise`, as for the rest.
        examples: size of the calibration set.
        optimizers: over the parameters.
        descent: of this part; all parts take as many steps.
        after_step: called with the step's number.

    """
    before, total = part.number * descent.iterations, part.of * descent.iterations

    def report(step: int, loss: float) -> None:
        job.progress(before + step, total, f"{part.label}, loss {loss:.4g}")

    job.log.curves[part.name] = minimise(
        objective,
        examples,
        optimizers,
        iterations=descent.iterations,
        batch_size=descent.batch_size,
        rng=job.rng,
        after_step=after_step,
        report=report,
        bfloat16=descent.bfloat16,
        state=part.state,
    )


def cosine(lr: float, progress: float) -> float:
    """A learning rate that falls from ``lr`` at a progress of 0 to 0 at 1."""
    return lr * 0.5 * (1 + math.cos(math.pi * progress))
