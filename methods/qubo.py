"""Rounding as a QUBO (Nagel et al., ICML 2020, sections 3.1 and 3.2).

QUBO stands for quadratic unconstrained binary optimisation.

Each weight goes down or up, so the second-order Taylor term of the loss is a QUBO in binary
variables: with the Hessian of the task loss all weights of a layer are one problem (eq. 13), with
the local Hessian E[x x^T] each row of the weight matrix is one (eq. 20). Both are solved by the
cross-entropy method (Rubinstein 1999), which starts from the probabilities of stochastic rounding,
as in the paper. Ours also starts from rounding to nearest, so that nothing worse comes out; the
paper does not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, Network, Paper, Scheme, weight_range
from quantbench.calibration.layer_moments import gram
from quantbench.calibration.task_hessian import task_hessian
from quantbench.calibration.walk import Progressive, Walk
from quantbench.calibration.weight_ranges import learnt_layers
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.quantization import papers
from quantbench.quantization.grids import QParams, share_up
from quantbench.quantization.layers import QuantLayer

TASK_WEIGHTS = 10_000  # the task Hessian of this many weights takes 400 MB

SAMPLED_VALUES = 2**24  # binary values drawn at a time


@dataclass(frozen=True)
class Qubo(Method):
    """Choose up or down for every weight by the cross-entropy method.

    The paper gives no settings of the solver; these make small problems, whose optimum is known,
    come out optimal.

    Attributes:
        hessian: ``local`` (eq. 20) or ``task`` (eq. 13; only layers of up to 10,000 weights).
        samples: roundings drawn per step.
        elite: share of them that the next probabilities are fitted to.
        smoothing: weight of the old probabilities when new ones are fitted.
        steps: at most so many; fewer when all probabilities have settled.
        draws: labels drawn from the network's prediction for each example of the task Hessian; all
            classes are summed over when there are no more than this.

    """

    name: ClassVar[str] = "qubo"
    paper: ClassVar[Paper] = papers.ADAROUND

    hessian: str = "local"
    samples: int = 1000
    elite: float = 0.05
    smoothing: float = 0.7
    steps: int = 100
    draws: int = 10

    def __post_init__(self) -> None:
        """Reject an unknown Hessian and empty samples."""
        if self.hessian not in ("local", "task"):
            raise BadInput(f"hessian {self.hessian!r}: choose local or task")
        enough = self.samples * self.elite >= 1 and self.steps > 0 and self.draws > 0
        if not (enough and 0 <= self.smoothing < 1):
            raise BadInput(
                "qubo: samples * elite, steps and draws are at least 1, smoothing lies in [0, 1)"
            )

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """The Hessian of the task loss is quadratic in a layer's weights."""
        layers = net.layers[:1] if scheme.which == "first" else net.layers
        big = [info for info in layers if info.params > TASK_WEIGHTS]
        if self.hessian == "local" or not big:
            return None
        entries = f"the task Hessian of {big[0].name} would have {big[0].params}^2 entries"
        return f"{entries}: quantize the first layer alone"

    def apply(self, job: Job) -> Job:
        """Layer by layer, on the full-precision network's activations."""
        q = job.start()
        finished, walk = FinishedSteps(job, self), Walk(q, job.calib, asymmetric=False)
        layers = learnt_layers(q, walk.calib)
        for i, layer in enumerate(layers):
            name = layer.info.name
            job.progress(i, len(layers), f"qubo {name}")
            qp = weight_range(q, layer, walk.calib)
            done = finished.load(name)
            if done is None:
                walk.to(name)
                done = {"codes": self.round_layer(job, walk.full, layer, qp)}
                finished.save(name, done)
            layer.set_codes(done["codes"], qp)
        q.calibrate_acts(job.calib)
        return job.done(q)

    def round_layer(self, job: Job, passes: Progressive, layer: QuantLayer, qp: QParams) -> Tensor:
        """Codes of one layer."""
        w, name = layer.original, layer.info.name
        low, high = qp.bracket(w)
        down, up = qp.dequantize(low) - w, qp.dequantize(high) - w
        if self.hessian == "task":
            h = task_hessian(passes, layer, self.draws, job.rng).unsqueeze(0)  # eq. 13
            shape = (1, 1, w.numel())
        else:
            h = gram(layer, passes.inputs_of(name)[0])  # eq. 20
            shape = (h.shape[0], w.shape[0] // h.shape[0], h.shape[1])
        problem = [t.reshape(shape) for t in (down, up, share_up(w, qp))]
        groups = zip(*problem, h, strict=True)
        choice = torch.stack([self.solve(d, u, p, group, job.rng) for d, u, p, group in groups])
        chosen = choice.view_as(w)
        error = torch.where(chosen, up, down).reshape(shape)
        job.log.numbers[f"objective/{name}"] = float(((error @ h) * error).sum())
        return torch.where(chosen, high, low)

    def solve(self, down: Tensor, up: Tensor, p: Tensor, h: Tensor, rng: torch.Generator) -> Tensor:
        """Minimise dw^T H dw over dw in {down, up} by the cross-entropy method.

        Args:
            down: (rows, n) change of each weight when it is rounded down.
            up: the same for up.
            p: first probabilities of up.
            h: (n, n).
            rng: where samples come from.

        Returns:
            (rows, n), true for up.

        """
        size = max(1, SAMPLED_VALUES // (self.samples * h.shape[0]))
        parts = zip(*(torch.split(t, size) for t in (down, up, p)), strict=True)
        return torch.cat([self._solve(d, u, share, h, rng) for d, u, share in parts])

    def _solve(
        self, down: Tensor, up: Tensor, p: Tensor, h: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Some rows of the problem."""
        keep = int(self.samples * self.elite)
        best = up.abs() < down.abs()  # rounding to nearest, so that nothing worse can come out
        lowest = _cost(torch.where(best, up, down), h)
        for _ in range(self.steps):
            sample = torch.rand(self.samples, *p.shape, generator=rng).to(p.device) < p
            cost = _cost(torch.where(sample, up, down), h)
            values, index = cost.topk(keep, dim=0, largest=False)
            elite = sample.gather(0, index.unsqueeze(2).expand(-1, -1, p.shape[1]))
            better = values[0] < lowest
            lowest = torch.where(better, values[0], lowest)
            best = torch.where(better.unsqueeze(1), elite[0], best)
            p = self.smoothing * p + (1 - self.smoothing) * elite.float().mean(0)
            if bool(((p < 0.01) | (p > 0.99)).all()):
                break
        return best


def _cost(error: Tensor, h: Tensor) -> Tensor:
    """(...,) dw^T H dw of (..., n) changes."""
    return ((error @ h) * error).sum(-1)
