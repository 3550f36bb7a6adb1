"""The two pipelines of Hubara et al., ICML 2021 (arXiv 2006.10518), section 4, from their steps.

                 AdaQuant   integer program   batch-norm tuning   bias tuning
light                              x                  x
advanced             x             x                  x                x

The released code learns layers on full-precision inputs, all for themselves, before the program,
which measures and stitches them; a script of its own then learns them again, in sequence, at the
bits that were chosen. Its relaxed pipeline is ``weights = [2, 3, 4, 5, 6, 7, 8]``.
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
            0.125 is half of 8 bits, for bit operations 0.03125. The paper's own limits are 0.13 to
            0.24.
        weights: weight bits to choose from.
        acts: activation bits to choose from; empty for the weights' own, as in the paper.
        measure: loss of a choice: ``kl``, ``mse`` or ``accuracy``, or ``cross_entropy`` with labels
            (released code).
        labelled: image set that the labels are of.
        gain: what the limit is on: ``size`` of the weights, which activation bits cost nothing of,
            or ``bops`` (bit operations) or ``latency``, which they do.
        momentum: of batch-norm tuning; ``None`` for plain averages, which are ours (released code:
            0.1).

    """

    name: ClassVar[str] = "adaquant-light"
    uses: ClassVar[tuple[str, ...]] = ("allocate", "nearest", "bn-tuning")
    paper: ClassVar[Paper] = papers.ADAQUANT
    size: float = 0.125
    weights: tuple[int, ...] = (4, 8)
    acts: tuple[int, ...] = ()
    measure: str = "kl"
    labelled: str = ""
    gain: str = "size"
    momentum: float | None = None

    def pipeline(self) -> Pipeline:
        """Its steps."""
        return Pipeline((self.allocate(make("nearest")), self.bn_tuning()))

    def allocate(self, rounding: Method, anew: Method | None = None) -> Method:
        """The integer program, over layers that a method calibrates at every choice of bits."""
        shared = ("weights", "acts", "size", "measure", "labelled", "gain")
        allocate = make("allocate", {k: vars(self)[k] for k in shared})
        found: Method = replace(allocate, rounding=rounding, anew=anew)
        return found

    def bn_tuning(self) -> Method:
        """Batch-norm tuning."""
        tuning: Method = make("bn-tuning", {"momentum": self.momentum})
        return tuning

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
        size: as in the light pipeline, like ``weights``, ``acts``, ``measure``, ``labelled``,
            ``gain`` and ``momentum``.
        iterations: of AdaQuant, like the learning rates and ``settle``.
        sequential: learn layers behind their quantized predecessors before the program already
            (ours): they are then put behind others than those they were learnt behind.
        relearn: after the program learn all layers again, from the full-precision weights and in
            sequence, at the bits chosen (a script of the released code; tuning follows here, which
            it does not there).
        epochs: of bias tuning, like ``lr_tuning``; 0 leaves it out.

    """

    name: ClassVar[str] = "adaquant-advanced"
    uses: ClassVar[tuple[str, ...]] = ("allocate", "adaquant", "bn-tuning", "bias-tuning")
    iterations: int = 1000
    lr_weights: float = 1e-5
    lr_bias: float = 1e-3
    lr_acts: float = 1e-1
    lr_ranges: float = 1e-3
    sequential: bool = False
    relearn: bool = False
    settle: bool = False
    epochs: int = 10
    lr_tuning: float = 0.1

    def pipeline(self) -> Pipeline:
        """Its steps."""
        again = self.adaquant(sequential=True) if self.relearn else None
        steps = (self.allocate(self.adaquant(sequential=self.sequential), again), self.bn_tuning())
        return Pipeline((*steps, self.bias_tuning()) if self.epochs else steps)

    def adaquant(self, *, sequential: bool) -> Method:
        """Its calibration of layers."""
        shared = ("iterations", "lr_weights", "lr_bias", "lr_acts", "lr_ranges", "settle")
        options = {k: vars(self)[k] for k in shared}
        adaquant: Method = make("adaquant", options | {"sequential": sequential})
        return adaquant

    def bias_tuning(self) -> Method:
        """Bias tuning by the loss that suits the network's output."""
        loss = "mse" if self.measure == "mse" else "kl"
        options = {"epochs": self.epochs, "lr": self.lr_tuning, "loss": loss}
        tuning: Method = make("bias-tuning", options)
        return tuning
