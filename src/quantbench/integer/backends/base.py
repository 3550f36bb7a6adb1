"""One interface to all that runs integer programs, and how far each is from the definition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import Program

Array = NDArray[Any]

_WHERE = {
    "native": "quantbench.integer.backends.native:Native",
    "onednn": "quantbench.integer.backends.onednn:OneDNN",
    "intmm": "quantbench.integer.backends.intmm:IntMM",
    "onnxruntime": "quantbench.integer.backends.onnxruntime:OnnxRuntime",
    "openvino": "quantbench.integer.backends.openvino:OpenVINO",
    "litert": "quantbench.integer.backends.litert.backend:LiteRT",
    "simulation": "quantbench.integer.backends.simulation:Simulated",
}

NAMES = tuple(_WHERE)


class Compiled(ABC):
    """A program ready to run on one backend."""

    @abstractmethod
    def __call__(self, images: Array) -> Array:
        """float32 logits (N, outputs) of float32 images, or of uint8 codes, (N, C, H, W)."""

    def codes(self, images: Array) -> Mapping[str, Array]:  # noqa: ARG002 - the common answer
        """uint8 codes (N, C, H, W) of the tensors that the backend shows, by name."""
        return {}


class Backend(ABC):
    """Something that runs programs."""

    name: str

    @abstractmethod
    def available(self) -> str | None:
        """Why it cannot be used on this machine; ``None`` if it can."""

    @abstractmethod
    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Prepare a program.

        Raises:
            Unsupported: an operator that the backend does not have, by name.
            BadInput: a malformed program.

        """


def not_installed(*packages: str) -> str | None:
    """Which of the packages a runtime lacks, and how to get them; ``None`` if it has all."""
    missing = [p for p in packages if find_spec(p) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} not installed: pip install 'quantbench[runtimes]'"


def backend(name: str) -> Backend:
    """Look a backend up by name; raises BadInput when there is none."""
    if name not in _WHERE:
        raise BadInput(f"no integer backend {name!r}; there are {', '.join(NAMES)}")
    module, _, attribute = _WHERE[name].partition(":")
    found: Backend = getattr(import_module(module), attribute)()
    return found


def compile(program: Program, name: str = "native", *, threads: int = 1) -> Compiled:  # noqa: A001 - the public word
    """Prepare a program on a backend by name.

    Raises:
        BadInput: no such backend, or a malformed program.
        Unsupported: the backend cannot be used on this machine, or lacks an operator, by name.

    """
    found = backend(name)
    if why := found.available():
        raise Unsupported(f"backend {name!r}: {why}")
    return found.compile(program, threads=threads)


@dataclass(frozen=True)
class Difference:
    """How far one tensor of a backend is from the definition.

    Attributes:
        largest: largest difference, in codes (logits: in float32 units).
        share: share of the elements that differ.

    """

    largest: float
    share: float

    @classmethod
    def between(cls, got: Array, expected: Array) -> Difference:
        """Compare two tensors of one shape."""
        d = np.abs(got.astype(np.float64) - expected.astype(np.float64))
        return cls(float(d.max(initial=0.0)), float((d != 0).mean()) if d.size else 0.0)


def differences(compiled: Compiled, program: Program, images: Array) -> dict[str, Difference]:
    """Every tensor that the backend shows, and the logits, against the exact simulation.

    All differences are zero if the backend is exact.
    """
    import torch

    from quantbench.integer.simulate import Simulation

    expected = Simulation(program).codes(torch.from_numpy(images))
    got = {**compiled.codes(images), program.output: compiled(images)}
    return {
        name: Difference.between(codes, expected[name].numpy().reshape(codes.shape))
        for name, codes in got.items()
    }
