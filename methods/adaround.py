"""AdaRound: Up or Down? Adaptive Rounding for Post-Training Quantization (Nagel et al., ICML 2020).

Each layer's rounding is learnt by a continuous relaxation of its QUBO, one layer after the other.
The paper's symbols: W weight, s step, V the relaxed rounding variable, h(V) in [0, 1], x and x^ the
layer's input before and after its predecessors are quantized, f_a the activation function that
follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, Paper, weight_range
from quantbench.calibration.memory import Activations, Memory
from quantbench.calibration.walk import Walk
from quantbench.calibration.weight_ranges import learnt_layers
from quantbench.network.activation_functions import Bounds
from quantbench.optimization.adam import Adam
from quantbench.optimization.descent import Descent, Part, fit
from quantbench.optimization.example_moments import ExampleMoments, worthwhile
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.optimization.reconstruction import layer_error
from quantbench.optimization.soft_rounding import (
    ACTIVATION_FUNCTIONS,
    Relaxation,
    Relaxed,
    Straight,
)
from quantbench.quantization import papers
from quantbench.quantization.grids import QParams
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel


@dataclass(frozen=True)
class AdaRound(Method):
    """Learn for every weight whether to round it up or down.

    Attributes:
        iterations: optimisation steps per layer.
        lr: Adam's learning rate for V; the paper has Adam's default. With 1e-2 as many iterations
            get closer to the optimum.
        batch_size: calibration examples per step, drawn anew each time.
        lam: lambda, weight of the regularizer in eq. 21 and 25 (released code; not in the main
            text), beside an error that is summed over channels and averaged over positions.
        beta_start: first exponent of f_reg (eq. 24; the text only says that it is annealed from a
            high to a low value, the numbers are AIMET's).
        beta_end: last exponent of f_reg.
        anneal: ``cosine`` (AIMET, by the paper's authors) or ``linear`` (BRECQ and others).
        warmup: share of the steps before f_reg sets in (released code).
        asymmetric: reconstruct from x^ of the quantized predecessors (eq. 25) instead of x.
        relu: include the activation function that follows (eq. 25): ReLU, ReLU6 or, after
            equalization, the bounds of every channel.
        moments: where no activation function follows inside the objective, take gradients from each
            example's second moments wherever that takes less time: the same but for rounding, with
            no convolution in a step. They take (9/16 k^2 + out k) values an example, k = in *
            kernel size.
        relaxation: ``rectified_sigmoid`` (eq. 23), ``sigmoid``, ``temperature`` (annealed sigmoid
            without f_reg, as in classical Hopfield networks; the paper gives no schedule, ours
            falls from 1 to beta_end / beta_start as beta does) or ``ste`` (straight-through on the
            weights, no f_reg, every code of the grid; at ``lr``, for which the paper has no other
            number); tables 3 and 5.
        bfloat16: keep activations, and run convolutions and products, in bfloat16: half the memory,
            and less time where the processor has it.

    """

    name: ClassVar[str] = "adaround"
    paper: ClassVar[Paper] = papers.ADAROUND

    iterations: int = 10_000
    lr: float = 1e-3
    batch_size: int = 32
    lam: float = 0.01
    beta_start: float = 20.0
    beta_end: float = 2.0
    warmup: float = 0.2
    anneal: str = "cosine"
    asymmetric: bool = True
    relu: bool = True
    moments: bool = False
    relaxation: str = "rectified_sigmoid"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Reject an unknown relaxation or schedule."""
        if self.relaxation not in ("rectified_sigmoid", "sigmoid", "temperature", "ste"):
            raise BadInput(
                f"relaxation {self.relaxation!r}: choose rectified_sigmoid, sigmoid, temperature "
                "or ste"
            )
        if self.anneal not in ("cosine", "linear"):
            raise BadInput(f"anneal {self.anneal!r}: choose cosine or linear")
        if not 0 <= self.warmup < 1:
            raise BadInput(
                f"warmup {self.warmup}: a share of the steps, at least 0 and less than 1"
            )

    def apply(self, job: Job) -> Job:
        """Section 3.3: layer by layer, each with the already quantized ones before it."""
        q = job.start()
        finished = FinishedSteps(job, self)
        walk = Walk(q, job.calib, asymmetric=self.asymmetric, bfloat16=self.bfloat16)
        layers = learnt_layers(q, walk.calib)
        for i, layer in enumerate(layers):
            name = layer.info.name
            qp = weight_range(q, layer, walk.calib)  # s is fixed before rounding is learnt
            done = finished.load(name)
            if done is None:
                walk.to(name)
                part = Part(name, f"adaround {name}", i, len(layers), finished.in_progress(name))
                done = {"codes": self.round_layer(job, layer, qp, walk, part)}
                finished.save(name, done)
            layer.set_codes(done["codes"], qp)
        q.calibrate_acts(job.calib)
        return job.done(q)

    def settings(self) -> Relaxation:
        """Of the relaxed rounding (section 3.2)."""
        schedule = self.lam, self.beta_start, self.beta_end, self.warmup, self.anneal
        return Relaxation(*schedule, self.relaxation)

    def activation(self, layer: QuantLayer) -> str | Bounds | None:
        """f_a in eq. 25: a name, or bounds per channel behind an equalized layer."""
        return layer.activation if self.relu else None

    def round_layer(
        self, job: Job, layer: QuantLayer, qp: QParams, walk: Walk, part: Part
    ) -> Tensor:
        """Minimise || f_a(W x) - f_a(W~ x^) ||_F^2 + lambda f_reg(V) (eq. 25); returns codes."""
        name, activation = layer.info.name, self.activation(layer)
        x_hat = walk.before.inputs_of(name)[0]
        target = walk.full.output_of(name, ACTIVATION_FUNCTIONS[activation])
        moments = self.example_moments(layer, x_hat, target, walk.memory)
        rounding = self.rounding(layer.original, qp)
        self.show(job, rounding, "before", name)

        def objective(batch: Tensor, progress: float) -> Tensor:
            (w,), penalty = rounding.weights(progress)  # W~, lambda f_reg(V)
            if moments is not None:
                return moments.error(w, batch) + penalty
            error = layer_error(layer, x_hat.take(batch), w, target.take(batch), activation)
            return error + penalty  # eq. 25, without f_a eq. 21

        descent = Descent(self.iterations, self.batch_size, self.bfloat16)
        fit(job, part, objective, len(x_hat), [Adam(rounding.v, self.lr)], descent)
        self.show(job, rounding, "after", name)
        (codes,) = rounding.codes()
        w = qp.dequantize(codes)
        job.log.numbers[f"objective/{name}"] = mean_error(layer, x_hat, target, w, activation)
        return codes

    @staticmethod
    def show(job: Job, rounding: Relaxed | Straight, when: str, name: str) -> None:
        """Keep h(V) of some weights, before and after, for figure 3."""
        if isinstance(rounding, Relaxed):
            job.log.curves[f"h/{when}/{name}"] = rounding.shown(float(when == "after"))

    def rounding(self, w: Tensor, qp: QParams) -> Relaxed | Straight:
        """What is learnt: V of the relaxation (eq. 22 to 24), or straight-through weights."""
        if self.relaxation == "ste":
            return Straight(w, qp)
        return Relaxed([w], [qp], self.settings())

    def example_moments(
        self, layer: QuantLayer, x: Activations, target: Activations, memory: Memory
    ) -> ExampleMoments | None:
        """What stands for images where ``moments`` is on and it takes less time."""
        if not self.moments or self.activation(layer) is not None:
            return None
        batch = parallel.batch_of(self.batch_size)
        if not worthwhile(layer, len(x), batch, self.iterations):
            return None
        return ExampleMoments(layer, x, target, memory)


@torch.no_grad()
def mean_error(
    layer: QuantLayer,
    x: Activations,
    target: Activations,
    w: Tensor,
    activation: str | Bounds | None,
    size: int = 128,
) -> float:
    """Reconstruction error over all examples with the final, rounded weights."""
    total = 0.0
    for start in range(0, len(x), size):
        part = slice(start, min(start + size, len(x)))
        error = layer_error(layer, x.take(part), w, target.take(part), activation)
        total += float(error) * (part.stop - start)
    return total / len(x)
