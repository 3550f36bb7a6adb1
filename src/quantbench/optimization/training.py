"""Training with labels: SGD in steps, augmentation, and a file to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quantbench.errors import BadInput
from quantbench.system import parallel, state_file
from quantbench.system.atomic import write_atomically

PAD = 4  # black pixels around an image before a crop of its own size

LOGGED = 20  # progress reports an epoch


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step; what is left over at the end of an epoch waits for the next
            shuffle.
        milestones: shares of all steps after which learning rates are multiplied by ``factor``.
        factor: see there.
        momentum: of SGD.
        bf16: autocast to bfloat16.

    """

    epochs: int
    batch_size: int = 128
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    momentum: float = 0.9
    bf16: bool = False

    def __post_init__(self) -> None:
        """Reject a schedule without steps."""
        if self.epochs < 1 or self.batch_size < 1:
            raise BadInput(
                f"{self.epochs} epochs of batches of {self.batch_size}: both are at least 1"
            )

    def rate(self, done: float) -> float:
        """Multiplier of the learning rates after a share of all steps."""
        return float(self.factor ** sum(done >= m for m in self.milestones))


class Examples(Protocol):
    """What a network is trained on."""

    @property
    def y(self) -> np.ndarray:
        """Labels (N,)."""

    def batch(self, index: np.ndarray, rng: torch.Generator) -> Tensor:
        """A network's input for the examples of these numbers, as ``rng`` varies them."""


@dataclass(frozen=True, eq=False)
class TrainSet:
    """Labelled images in memory.

    Attributes:
        x: uint8 (N, H, W, 3).
        y: (N,) labels.
        preprocess: turns pixels into a network's input.

    """

    x: np.ndarray
    y: np.ndarray
    preprocess: Callable[[np.ndarray], Tensor]

    def batch(self, index: np.ndarray, rng: torch.Generator) -> Tensor:
        """Images (n, C, H, W), each moved and mirrored by chance."""
        return self.preprocess(augment(self.x[index], rng))


@dataclass(frozen=True)
class History:
    """Mean training loss of every epoch, and top-1 in percent after it where a set is watched."""

    loss: list[float] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)


def augment(x: np.ndarray, rng: torch.Generator) -> np.ndarray:
    """Random crops after padding, and mirror images of half of them.

    Images are uint8 (N, H, W, 3); the padding is 4 black pixels.
    """
    n, h, w, _ = x.shape
    top, left = (torch.randint(2 * PAD + 1, (n,), generator=rng).numpy() for _ in range(2))
    mirrored = torch.randint(2, (n,), generator=rng).numpy().astype(bool)
    padded = np.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    rows, columns = top[:, None] + np.arange(h), left[:, None] + np.arange(w)
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    cropped: np.ndarray = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped


def train(
    model: nn.Module,
    data: Examples,
    groups: Sequence[Mapping[str, Any]],
    schedule: Schedule,
    rng: torch.Generator,
    *,
    watch: Callable[[nn.Module], float] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    saved: Path | None = None,
) -> History:
    """Minimise cross-entropy.

    The model is afterwards as the last epoch left it, whatever the best one was.

    Args:
        model: changed in place; its parameters say where to compute.
        data: training images.
        groups: parameter groups of ``torch.optim.SGD``, each with its ``lr``.
        schedule: how long.
        rng: on the CPU; order and augmentation come from it.
        watch: gives the top-1 that is kept after every epoch, without influence on the training.
        progress: called with (done, total, label).
        saved: file that an interrupted training goes on from.

    Raises:
        BadInput: no images, or a loss that is not finite.

    """
    if not len(data.y):
        raise BadInput("no training images: the set is empty")
    optimizer = torch.optim.SGD([dict(g) for g in groups], momentum=schedule.momentum)
    state, history = _State(model, optimizer, rng, saved), History()
    for epoch in range(state.load(history), schedule.epochs):
        history.loss.append(_epoch(model, data, optimizer, schedule, rng, epoch, progress))
        if watch is not None:
            history.top1.append(watch(model.eval()))
        state.save(epoch + 1, history)
    model.eval()
    return history


def _epoch(
    model: nn.Module,
    data: Examples,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    rng: torch.Generator,
    epoch: int,
    progress: Callable[[int, int, str], None] | None,
) -> float:
    """One pass; returns the mean loss."""
    model.train()
    device = next(model.parameters()).device
    size = min(schedule.batch_size, len(data.y))
    steps = len(data.y) // size
    order = torch.randperm(len(data.y), generator=rng).numpy()
    total, every = 0.0, max(1, steps // LOGGED)
    for i in range(steps):
        rate = schedule.rate((epoch + i / steps) / schedule.epochs)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
        index = order[i * size : (i + 1) * size]
        x = data.batch(index, rng).to(device)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(data.y[index]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
            loss = cross_entropy(model(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BadInput(
                f"the training loss is {value} in epoch {epoch + 1}: lower the learning rate"
            )
        total += value
        if progress is not None and (i % every == 0 or i == steps - 1):
            done, whole = epoch * steps + i + 1, schedule.epochs * steps
            progress(done, whole, f"epoch {epoch + 1}, loss {value:.3f}")
    return total / steps


@dataclass(frozen=True)
class _State:
    """Everything that the next epoch depends on, in one file that is whole or absent."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    rng: torch.Generator
    path: Path | None

    def load(self, history: History) -> int:
        """Go back to the last finished epoch; returns how many are finished."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            state: dict[str, Any] = state_file.read(self.path)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.rng.set_state(state["rng"])
            history.loss.extend(state["loss"])
            history.top1.extend(state["top1"])
            return int(state["epoch"])
        except (OSError, *state_file.DAMAGE) as e:
            raise BadInput(
                f"{self.path} is not a state of this training ({e}); remove it to start over"
            ) from e

    def save(self, epoch: int, history: History) -> None:
        """Keep a finished epoch."""
        if self.path is None or not parallel.first():
            return
        models = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        state = {"epoch": epoch, "rng": self.rng.get_state()} | vars(history)
        write_atomically(self.path, state_file.to_bytes({**models, **state}))
