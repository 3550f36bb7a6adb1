"""The common quantization interface.

A method is a frozen dataclass that turns one job into the next.

A job carries the network, the calibration inputs, the scheme, a random generator and, once there is
one, the quantized network. Rewrites change ``net``, bit allocation changes ``scheme``, rounding
fills in ``quantized``, corrections improve it: so methods compose, and a pipeline is itself a
method.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch

from quantbench.errors import BadInput, Unsupported
from quantbench.network.examples import Examples, as_inputs
from quantbench.network.network import Network
from quantbench.quantization.papers import Paper
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Scheme
from quantbench.system import parallel
from quantbench.system.determinism import exact_cudnn
from quantbench.system.progress import Progress, silent
from quantbench.system.tensors import Inputs

COUNTS = ("batch_size", "batches", "repeats")  # fields of methods of which 0 means nothing


@dataclass
class Log:
    """Measurements a method makes on the way; they end up in the cell, MLflow and the report.

    Attributes:
        curves: objective values by name, such as a layer's reconstruction loss per logged
            iteration.
        numbers: single values by name, such as a layer's final objective.
        seconds: time by phase.

    """

    curves: dict[str, list[float]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """Everything a method works on.

    Attributes:
        net: full-precision reference, batch norm folded.
        calib: calibration inputs, tensors with a common first dimension.
        scheme: what to quantize.
        rng: the only source of randomness.
        quantized: ``None`` until a method has quantized.
        progress: called with (done, total, label).
        log: measurements.
        scratch: folder for resuming long work, or ``None``.

    """

    net: Network
    calib: Inputs
    scheme: Scheme
    rng: torch.Generator
    quantized: Quantized | None = None
    progress: Progress = silent
    log: Log = field(default_factory=Log)
    scratch: Path | None = None

    def start(self) -> Quantized:
        """The quantized network so far, or a fresh one with every layer still in full precision."""
        return self.quantized or Quantized(self.net, self.scheme)

    def done(self, quantized: Quantized) -> Job:
        """The job with its quantized network."""
        return replace(self, quantized=quantized)

    def need(self) -> Quantized:
        """The quantized network that a correction works on.

        Raises:
            BadInput: nothing has quantized yet.

        """
        if self.quantized is None:
            raise Unsupported(
                "a correction needs a quantized network: put a rounding method before it in the "
                "pipeline"
            )
        return self.quantized


class Method(ABC):
    """Base of every method.

    Subclasses are frozen dataclasses whose fields are the paper's hyperparameters.
    """

    name: ClassVar[str]
    paper: ClassVar[Paper | None] = None
    version: ClassVar[int] = 1
    uses: ClassVar[tuple[str, ...]] = ()  # other methods by name, whose code its results depend on

    @abstractmethod
    def apply(self, job: Job) -> Job:
        """Do the method's work; deterministic given the job's generator."""

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the common answer
        """Reason why this method cannot work here, shown as SKIP; ``None`` when it can."""
        return None


@dataclass(frozen=True)
class Pipeline(Method):
    """Methods one after the other."""

    name: ClassVar[str] = "pipeline"
    steps: tuple[Method, ...] = ()

    def apply(self, job: Job) -> Job:
        """Run every step on the result of the one before."""
        for step in self.steps:
            start = time.perf_counter()
            job = step.apply(job)
            before, taken = job.log.seconds.get(step.name, 0.0), time.perf_counter() - start
            job.log.seconds[step.name] = before + taken
        return job

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """The first step's reason that there is."""
        return next((why for step in self.steps if (why := step.unsupported(net, scheme))), None)


def quantize(
    method: Method,
    net: Network,
    calib: Examples,
    scheme: Scheme,
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
    log: Log | None = None,
    scratch: Path | None = None,
) -> Quantized:
    """Quantize a network with a method.

    Under ``torchrun`` the processes share the calibration examples.

    Args:
        method: any method or pipeline.
        net: the full-precision network.
        calib: calibration inputs, preprocessed as the network expects: a tensor (N, ...), a tuple
            of them for several inputs, an array, a mapping, a list of batches, a Dataset, a
            DataLoader (``network.examples.as_inputs`` has the rules; labels are dropped).
        scheme: what to quantize.
        limit: the most calibration examples to take; all of a tensor, and 1,024 of a Dataset or
            DataLoader unless given.
        seed: seed of the job's generator; same seed, same bits.
        progress: called with (done, total, label).
        log: filled with measurements.
        scratch: folder in which long methods keep what they need to resume.

    Raises:
        BadInput: an empty, wrongly shaped or non-finite calibration set, a negative or non-finite
            field, an argument of another kind.
        Unsupported: method, network and scheme do not go together.

    """
    _require_kinds(method, net, scheme)
    inputs = tuple(t.to(net.device) for t in as_inputs(calib, net, limit=limit, progress=progress))
    _require_calibration(inputs, net)
    _require_fields(method)
    if why := method.unsupported(net, scheme):
        raise Unsupported(why)
    rng = torch.Generator(device="cpu").manual_seed(seed)
    parallel.join()
    told = progress if parallel.first() else silent
    # methods learn by gradients, whatever the caller has switched off
    with exact_cudnn(), torch.inference_mode(mode=False), torch.enable_grad():
        return method.apply(Job(net, inputs, scheme, rng, None, told, log or Log(), scratch)).need()


def _require_kinds(method: object, net: object, scheme: object) -> None:
    """Refuse arguments of other kinds, with the way to make the right ones."""
    ways = (
        ("method", method, Method, "an instance, such as qb.method('nearest')"),
        ("network", net, Network, "qb.Network.of(model, sample)"),
        ("scheme", scheme, Scheme, "a Scheme, such as qb.scheme('w8a8')"),
    )
    for what, given, kind, way in ways:
        if not isinstance(given, kind):
            found = given.__name__ if isinstance(given, type) else repr(given)
            shown = found if isinstance(given, str | type) else type(given).__name__
            raise BadInput(f"the {what} is {shown}: give {way}")


def _require_fields(method: Method) -> None:
    """Refuse numbers that mean nothing for any method."""
    for part in method.steps if isinstance(method, Pipeline) else (method,):
        for key, value in vars(part).items():
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise BadInput(
                    f"{part.name}: {key} is {value}; it has to be a number that is not negative"
                )
            if key in COUNTS and value is not None and value < 1:
                raise BadInput(f"{part.name}: {key} is {value}; it has to be at least 1")


def _require_calibration(inputs: Inputs, net: Network) -> None:
    """Refuse calibration data that no method can use."""
    if not inputs or inputs[0].shape[0] == 0:
        raise BadInput("the calibration set is empty: give at least one example")
    if len(inputs) != len(net.sample):
        raise BadInput(
            f"{net.name} takes {len(net.sample)} inputs, the calibration set has {len(inputs)}"
        )
    if len(lengths := {len(t) for t in inputs}) > 1:
        raise BadInput(
            f"the calibration set's inputs have {sorted(lengths)} examples: give as many of each"
        )
    for given, sample in zip(inputs, net.sample, strict=True):
        if given.shape[1:] != sample.shape[1:] and given.dtype.is_floating_point:
            raise BadInput(
                f"calibration examples have shape {tuple(given.shape[1:])}, {net.name} takes "
                f"{tuple(sample.shape[1:])}"
            )
        if given.dtype != sample.dtype:
            raise BadInput(
                f"calibration examples are {given.dtype}, {net.name} takes {sample.dtype}: "
                "convert them"
            )
        if given.dtype.is_floating_point and not torch.isfinite(given).all():
            raise BadInput(
                f"{int((~torch.isfinite(given)).sum())} calibration values are NaN or infinite"
            )
