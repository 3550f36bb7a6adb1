"""A step that is under way, kept on disk every few minutes, for one may take hours.

A step is a layer or a block of a long method; ``finished_steps`` keeps the ones that are done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.system import parallel, state_file
from quantbench.system.atomic import write_atomically

EVERY = 120.0  # seconds between two states on disk

# the wall's clock, and the processor's, which counts all threads and stands while others run
CLOCKS = {"reconstruct": time.perf_counter, "reconstruct_cpu": time.process_time}


class Stopwatch:
    """Seconds of a step by every clock, those before an interruption included."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new step begins."""
        self._since = {name: clock() for name, clock in CLOCKS.items()}

    def seconds(self) -> dict[str, float]:
        """What the step has taken so far."""
        return {name: clock() - self._since[name] for name, clock in CLOCKS.items()}

    def add(self, seconds: Mapping[str, float]) -> None:
        """The step had taken so much before."""
        for name, took in seconds.items():
            self._since[name] -= took


class Optimizing(Protocol):
    """What an optimizer has."""

    param_groups: list[dict[str, Any]]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` gave."""


class StepInProgress:
    """A minimisation as it was between two iterations: parameters, optimizers, generator, curve.

    Args:
        path: file, or ``None`` to keep nothing.
        stopwatch: of the step; the time of a state that is found is added to it.

    """

    def __init__(self, path: Path | None, stopwatch: Stopwatch) -> None:
        self.path, self.stopwatch, self._last = path, stopwatch, time.monotonic()

    def load(
        self, rng: torch.Generator, optimizers: Sequence[Optimizing]
    ) -> tuple[int, list[float]]:
        """Go back to the state that is kept.

        Returns:
            finished iterations and the curve; none where nothing is kept.

        Raises:
            BadInput: a whole file, but of another step.

        """
        if self.path is None or not parallel.first_says(self.path.exists()):
            return 0, []
        try:
            state: dict[str, Any] = state_file.read(self.path)
        except (OSError, ValueError):  # damaged: begin the step again
            self.path.unlink(missing_ok=True)
            return 0, []
        try:
            return self._back_to(state, rng, optimizers)
        except state_file.DAMAGE as e:
            raise BadInput(
                f"{self.path} is not a state of this step ({e}); remove it to start over"
            ) from e

    def _back_to(
        self, state: Mapping[str, Any], rng: torch.Generator, optimizers: Sequence[Optimizing]
    ) -> tuple[int, list[float]]:
        for own, kept in zip(_parameters(optimizers), state["parameters"], strict=True):
            own.data.copy_(kept)
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        rng.set_state(state["rng"])
        self.stopwatch.add(state["seconds"])
        return int(state["done"]), list(state["curve"])

    def save(
        self,
        done: int,
        curve: Sequence[float],
        rng: torch.Generator,
        optimizers: Sequence[Optimizing],
    ) -> None:
        """Keep the state behind ``done`` iterations, if the last one is old enough."""
        if self.path is None or time.monotonic() - self._last < EVERY or not parallel.first():
            return
        state = {
            "done": done,
            "curve": list(curve),
            "rng": rng.get_state(),
            "parameters": [p.detach() for p in _parameters(optimizers)],
            "optimizers": [o.state_dict() for o in optimizers],
            "seconds": self.stopwatch.seconds(),
        }
        write_atomically(self.path, state_file.to_bytes(state))
        self._last = time.monotonic()


def _parameters(optimizers: Sequence[Optimizing]) -> list[Tensor]:
    """All of them, in order."""
    return [p for o in optimizers for group in o.param_groups for p in group["params"]]
