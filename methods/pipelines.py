"""The two pipelines of Hubara et al. 2020, section 4, as compositions of their steps.

                 AdaQuant   integer program   batch-norm tuning   bias tuning
light                              x                  x
advanced             x             x                  x                x
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from quantbench import Job, Method, Network, Paper, Pipeline, Scheme
from quantbench.quantization import papers
from quantbench.quantization.registry import make


@dataclass(frozen=True)
class Light(Method):
    """Measure, allocate, tune batch norm: no back-propagation.

    Attributes:
        size: limit on the cost, as a fraction of full precision's: for the size of the weights
            0.125 is half of 8 bits, for bit operations 0.03125.
        weights: weight bits to choose from.
        acts: activation bits to choose from; empty for the weights' own.
        measure: loss of a choice: ``kl``, ``mse`` or ``accuracy``.
        gain: what the limit is on: ``size`` of the weights, which activation bits cost nothing of,
            or ``bops`` (bit operations) or ``latency``, which they do.

    """

    name: ClassVar[str] = "adaquant-light"
    uses: ClassVar[tuple[str, ...]] = ("allocate", "nearest", "bn-tuning")
    paper: ClassVar[Paper] = papers.ADAQUANT
    size: float = 0.125
    weights: tuple[int, ...] = (4, 8)
    acts: tuple[int, ...] = ()
    measure: str = "kl"
    gain: str = "size"

    def pipeline(self) -> Pipeline:
        """Its steps."""
        return Pipeline((self.allocate(make("nearest")), make("bn-tuning")))

    def allocate(self, rounding: Method) -> Method:
        """The integer program, over layers that a method calibrates at every choice of bits."""
        shared = ("weights", "acts", "size", "measure", "gain")
        allocate = make("allocate", {k: vars(self)[k] for k in shared})
        found: Method = replace(allocate, rounding=rounding)
        return found

    def apply(self, job: Job) -> Job:
        """Run the steps."""
        return self.pipeline().apply(job)

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """The first step's reason that there is."""
        return self.pipeline().unsupported(net, scheme)


@dataclass(frozen=True)
class Advanced(Light):
    """AdaQuant at every choice of bits, allocate, tune batch norm and biases.

    Attributes:
        size: as in the light pipeline, like ``weights``, ``acts``, ``measure`` and ``gain``.
        iterations: of AdaQuant, like the learning rates, ``sequential`` and ``settle``.
        epochs: of bias tuning, like ``lr_tuning``.

    """

    name: ClassVar[str] = "adaquant-advanced"
    uses: ClassVar[tuple[str, ...]] = ("allocate", "adaquant", "bn-tuning", "bias-tuning")
    iterations: int = 1000
    lr_weights: float = 1e-5
    lr_bias: float = 1e-3
    lr_acts: float = 1e-1
    lr_ranges: float = 1e-3
    sequential: bool = True
    settle: bool = False
    epochs: int = 10
    lr_tuning: float = 0.1

    def pipeline(self) -> Pipeline:
        """Its steps."""
        rates = ("lr_weights", "lr_bias", "lr_acts", "lr_ranges")
        shared = ("iterations", *rates, "sequential", "settle")
        adaquant = make("adaquant", {k: vars(self)[k] for k in shared})
        loss = "mse" if self.measure == "mse" else "kl"
        tuning = make("bias-tuning", {"epochs": self.epochs, "lr": self.lr_tuning, "loss": loss})
        return Pipeline((self.allocate(adaquant), make("bn-tuning"), tuning))
