"""A step that is under way, kept on disk every few minutes: a layer of a large network takes hours."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from quantbench.system import parallel
from quantbench.system.atomic import write_atomically

EVERY = 120.0  # seconds between two states on disk


class Optimizing(Protocol):
    """What an optimizer has."""

    param_groups: list[dict[str, Any]]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` gave."""


class Unfinished:
    """Parameters, optimizers, generator and curve of a minimisation, as they were between two of its iterations.

    Args:
        path: file, or ``None`` to keep nothing.
        since: by clock, when the step began; moved back by the time that a state took that is
            found.
        now: what these clocks show.

    """

    def __init__(self, path: Path | None, since: dict[str, float], now: Any) -> None:
        self.path, self.since, self.now, self.last = path, since, now, time.monotonic()

    def load(
        self, rng: torch.Generator, optimizers: Sequence[Optimizing]
    ) -> tuple[int, list[float]]:
        """Go back to the state that is kept; returns finished iterations and the curve, none where nothing is kept."""
        if self.path is None or not parallel.first_says(self.path.exists()):
            return 0, []
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception:  # noqa: BLE001 - whatever the damage leads torch to: begin the step again
            self.path.unlink(missing_ok=True)
            return 0, []
        for own, kept in zip(_parameters(optimizers), state["parameters"], strict=True):
            own.data.copy_(kept)
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        rng.set_state(state["rng"])
        for clock, took in state["seconds"].items():
            self.since[clock] -= took
        return int(state["done"]), list(state["curve"])

    def save(
        self,
        done: int,
        curve: Sequence[float],
        rng: torch.Generator,
        optimizers: Sequence[Optimizing],
    ) -> None:
        """Keep the state behind ``done`` iterations, if the last one is old enough."""
        if self.path is None or time.monotonic() - self.last < EVERY or not parallel.first():
            return
        state = {
            "done": done,
            "curve": list(curve),
            "rng": rng.get_state(),
            "parameters": [p.detach() for p in _parameters(optimizers)],
            "optimizers": [o.state_dict() for o in optimizers],
            "seconds": {clock: t - self.since[clock] for clock, t in self.now().items()},
        }
        torch.save(state, whole := io.BytesIO())
        write_atomically(self.path, whole.getvalue())
        self.last = time.monotonic()


def _parameters(optimizers: Sequence[Optimizing]) -> list[Tensor]:
    """All of them, in order."""
    return [p for o in optimizers for group in o.param_groups for p in group["params"]]
