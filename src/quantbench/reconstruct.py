"""The one optimisation loop behind AdaRound, BRECQ, QDrop and AdaQuant, and what it needs around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from quantbench.errors import BadInput

Objective = Callable[[Tensor, float], Tensor]  # (example indices, progress in [0, 1)) -> scalar loss
LOGGED_POINTS = 50


def minimise(
    objective: Objective,
    examples: int,
    optimizers: Sequence[Optimizer],
    *,
    iterations: int,
    batch_size: int,
    rng: torch.Generator,
    after_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Minibatch descent with batches drawn from an explicit generator.

    Args:
        objective: loss of a batch of example indices.
        examples: number of examples to draw from.
        optimizers: stepped together after each backward pass.
        iterations: number of steps.
        batch_size: examples per step, drawn without replacement; all of them when there are fewer.
        rng: generator on the CPU.
        after_step: called with the step's number, for schedules and progress.

    Returns:
        The loss at about 50 evenly spaced steps.

    Raises:
        BadInput: the loss is not finite.

    """
    curve = []
    every = max(1, iterations // LOGGED_POINTS)
    for i in range(iterations):
        batch = torch.randperm(examples, generator=rng)[:batch_size]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = objective(batch, i / iterations)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        if i % every == 0 or i == iterations - 1:
            value = float(loss.detach())
            curve.append(value)
            if not math.isfinite(value):
                raise BadInput(f"the reconstruction loss is {value} at step {i}: lower the learning rate")
        if after_step is not None:
            after_step(i)
    return curve


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """||output - target||^2 summed over channels, mean over examples and positions (scaling of the papers' code).

    Channels are dimension 1 of (N, C, H, W) and the last dimension otherwise.
    """
    channel = 1 if output.dim() == 4 else -1
    return (output - target).square().sum(channel).mean()


class Resume:
    """Finished steps of a long method, kept in a folder so that an interrupted run goes on where it was."""

    def __init__(self, folder: Path | None, rng: torch.Generator) -> None:
        self.folder, self.rng = folder, rng

    def load(self, step: str) -> dict[str, Tensor] | None:
        """Tensors of a finished step, with the generator put where that step left it; ``None`` when not done."""
        path = self._path(step)
        if path is None or not path.exists():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except (SafetensorError, OSError):
            path.unlink()  # half-written by a crash: do the step again
            return None
        self.rng.set_state(tensors.pop("rng"))
        return tensors

    def save(self, step: str, tensors: dict[str, Tensor]) -> None:
        """Keep a finished step, atomically."""
        path = self._path(step)
        if path is None:
            return
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()} | {"rng": self.rng.get_state()}, part)
        part.replace(path)

    def _path(self, step: str) -> Path | None:
        """File of one step."""
        return None if self.folder is None else self.folder / f"{step.replace('/', '_')}.safetensors"
