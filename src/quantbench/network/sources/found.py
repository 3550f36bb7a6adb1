"""A network that was found by name, and what all sources need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, DataCorrupt
from quantbench.network.layers import LAYERS
from quantbench.network.plain.given import Output, Sample


@dataclass(frozen=True)
class Found:
    """A network with what it takes and gives.

    Attributes:
        model: with its weights.
        sample: two examples of noise.
        output: which output to look at, unless the user says so.
        kinds: classes of layers to quantize.

    """

    model: nn.Module
    sample: Sample
    output: Output | None = None
    kinds: tuple[type[nn.Module], ...] = LAYERS


def library(module: str, package: str) -> Any:
    """An optional library; raises BadInput with the way to get it."""
    try:
        return import_module(module)
    except ImportError as e:
        raise BadInput(f"{module} is not installed: pip install {package}") from e


def made(make: Callable[[], nn.Module], generator: torch.Generator | None) -> nn.Module:
    """A network whose initial weights follow from a generator, and nothing else does."""
    seed = 0
    if generator is not None:
        seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights; raises DataCorrupt for those of another network."""
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as e:
        raise DataCorrupt(f"weights that do not fit {type(model).__name__}: {e}") from e


def size(value: Any) -> tuple[int, int]:
    """Rows and columns from one number or a list."""
    sides = tuple(value) if isinstance(value, list | tuple) else (value,)
    return int(sides[0]), int(sides[-1])


def noise(*shape: int) -> Tensor:
    """The same normal noise each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
