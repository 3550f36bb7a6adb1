"""States of work under way: right ones, and the loaders that go on from them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from quantbench.errors import BadInput
from quantbench.optimization.adam import Adam
from quantbench.optimization.step_in_progress import Optimizing, StepInProgress, Stopwatch
from quantbench.optimization.training import History, _State
from quantbench.system import state_file


def _optimizers() -> list[Optimizing]:
    """Of a step: torch's own and ours, both with a state."""
    first, second = nn.Parameter(torch.ones(2, 3)), torch.ones(4, requires_grad=True)
    found: list[Optimizing] = [torch.optim.Adam([first], lr=0.1), Adam(second, 0.1)]
    first.grad = torch.ones_like(first)
    found[0].step()  # type: ignore[attr-defined]
    return found


def _training(path: Path) -> _State:
    """Of an epoch of SGD."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return _State(model, optimizer, torch.Generator(), path)


def of_steps() -> tuple[bytes, ...]:
    def write(path: Path) -> None:
        state = StepInProgress(path, Stopwatch())
        state._last = float("-inf")
        state.save(3, [0.5, 0.25], torch.Generator(), _optimizers())

    return (_written(write),)


def of_trainings() -> tuple[bytes, ...]:
    return (_written(lambda path: _training(path).save(2, History([0.5, 0.25], [90.0, 91.0]))),)


def _written(write: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "state")
        return (Path(folder) / "state").read_bytes()


def step(path: Path) -> object:
    return _both(
        path, lambda: StepInProgress(path, Stopwatch()).load(torch.Generator(), _optimizers())
    )


def training(path: Path) -> object:
    return _both(path, lambda: _training(path).load(History()))


def _both(path: Path, read: Callable[[], object]) -> object:
    """As it is, and with the checksum that its contents have."""
    content = path.read_bytes()
    with suppress(BadInput):
        read()
    path.write_bytes(_signed(content))
    return read()


def _signed(content: bytes) -> bytes:
    """Bytes that are no tensors with a text beside them stay as they are."""
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size])["__metadata__"]["state"]
        about = {"state": text, "sha256": state_file._digest(text, tensors)}
        return save({name: t.clone() for name, t in tensors.items()}, about)
    except (*state_file.DAMAGE, SafetensorError):
        return content
