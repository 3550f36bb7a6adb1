"""One run of a method on one network, and what was seen of it."""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quantbench.conformance.families import calibration_set, tiny_network
from quantbench.conformance.subject import SCHEMES
from quantbench.errors import Unsupported
from quantbench.network.network import Network
from quantbench.quantization.method import Method, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.system.progress import Progress, silent
from quantbench.system.tensors import Inputs, tensor_digest

SEED = 1
GENERATORS = "torch", "numpy", "random"


@dataclass(frozen=True)
class Case:
    """A method on a network of a family, under a scheme.

    Attributes:
        method: quick, and complete.
        family: of ``FAMILIES``.
        scheme: of ``SCHEMES``.

    """

    method: Method
    family: str
    scheme: str

    def __str__(self) -> str:
        """Where a failure is."""
        return f"on the {self.family} network under {self.scheme}"

    def run(self, *, progress: Progress = silent, scratch: Path | None = None) -> Quantized:
        """Quantize a new network."""
        net, calib = tiny_network(self.family)
        scheme = SCHEMES[self.scheme]
        return quantize(
            self.method, net, calib, scheme, seed=SEED, progress=progress, scratch=scratch
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """The first run of a case.

    Attributes:
        case: what was run.
        quantized: the result; ``None`` where the method refuses or fails.
        refusal: its reason.
        error: what it raised instead, and where.
        changed: what it should not have touched and did, in words; the global generators by name.

    """

    case: Case
    quantized: Quantized | None
    refusal: str
    error: str
    changed: tuple[str, ...]

    @property
    def calib(self) -> Inputs:
        """The calibration set, anew."""
        return calibration_set(self.case.family)


def observe(case: Case) -> Observation:
    """Run a case, and look at what must stay as it is."""
    net, calib = tiny_network(case.family)
    before, q, refusal, error = dict(_untouched(net, calib)), None, "", ""
    try:
        q = quantize(case.method, net, calib, SCHEMES[case.scheme], seed=SEED)
    except Unsupported as e:
        refusal = str(e)
    except Exception as e:  # noqa: BLE001 - whatever a broken method raises
        error = told(e)
    after = dict(_untouched(net, calib))
    changed = tuple(what for what, digest in before.items() if after[what] != digest)
    return Observation(case, q, refusal, error, changed)


def told(error: Exception) -> str:
    """An error in words, with the line that raised it."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"


def _untouched(net: Network, calib: Inputs) -> Iterator[tuple[str, str]]:
    """Digests of what no method may change, by what a failure says of it."""
    yield "torch", repr(torch.random.get_rng_state().tolist())
    yield "numpy", repr(_numpy_state())
    yield "random", repr(random.getstate())
    yield "job.net.model: copy before you change", net.digest
    if net.unfolded is not None:
        unfolded = tensor_digest(net.unfolded.state_dict())
        yield "job.net.unfolded: copy before you change", unfolded
    yield "job.net.batch_norm: copy before you change", tensor_digest(_statistics(net))
    yield "job.calib: copy before you change", tensor_digest(_numbered(calib))
    with torch.no_grad():
        output = tensor_digest({"output": net.model(*net.sample)})
    yield "what job.net.model computes: a hook or a mode was left behind", output


def _numpy_state() -> tuple[object, ...]:
    """The state of numpy's global generator, which is what is looked at here."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return name, keys.tolist(), *rest  # type: ignore[union-attr]


def _statistics(net: Network) -> Mapping[str, Tensor]:
    """Every tensor of the folded batch norms."""
    stats = net.batch_norm.items()
    return {f"{layer}.{k}": t for layer, s in stats for k, t in vars(s).items()}


def _numbered(tensors: Inputs) -> dict[str, Tensor]:
    """Tensors by their positions."""
    return {str(i): t for i, t in enumerate(tensors)}
