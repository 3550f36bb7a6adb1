"""The optimisation loop behind AdaRound, BRECQ, QDrop and AdaQuant, and what it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from quantbench.errors import BadInput
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


class Adam:
    """torch's Adam for one tensor, with the same bits.

    It calls the kernel without what takes longer than it does around it.

    Attributes:
        param_groups: as of torch's optimizers.

    """

    def __init__(self, tensor: Tensor, lr: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [tensor], "lr": lr}]
        self.means, self.squares = torch.zeros_like(tensor), torch.zeros_like(tensor)
        self.steps = torch.zeros((), device=tensor.device)
        self.rest: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
        self.rest |= {"amsgrad": False, "maximize": False}

    def zero_grad(self, **_: Any) -> None:
        """Forget the gradient."""
        self.param_groups[0]["params"][0].grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the tensor."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` gave."""
        for own, kept in zip(self.state_dict().values(), state_dict.values(), strict=True):
            own.copy_(kept)

    @torch.no_grad()
    def step(self) -> None:
        """Move the tensor by its gradient."""
        (group,) = self.param_groups
        gradients = [tensor.grad for tensor in group["params"]]
        state: Any = [self.means], [self.squares], [], [self.steps.add_(1)]
        torch.ops.aten._fused_adam_(group["params"], gradients, *state, lr=group["lr"], **self.rest)


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
    device = optimizers[0].param_groups[0]["params"][0].device.type
    for i in range(start, iterations):
        batch = torch.randperm(examples, generator=rng)[:own_batch]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            loss = objective(batch, i / iterations)
        loss.backward()  # type: ignore[no-untyped-call]
        parallel.average(
            p.grad for o in optimizers for group in o.param_groups for p in group["params"]
        )
        for optimizer in optimizers:
            optimizer.step()
        if after_step is not None:
            after_step(i)
        if i % every == 0 or i == iterations - 1:
            value = float(loss.detach())
            curve.append(value)
            if not math.isfinite(value):
                raise BadInput(
                    f"the reconstruction loss is {value} at step {i}: lower the learning rate"
                )
            if report is not None:
                report(i + 1, value)
        if state is not None:
            state.save(i + 1, curve, rng, optimizers)
    return curve


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
