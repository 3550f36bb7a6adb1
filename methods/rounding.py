"""The rounding schemes that AdaRound starts from (Nagel et al., ICML 2020, table 1, figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, Network, Quantized, Scheme, weight_range
from quantbench.calibration.task_hessian import task_hessian
from quantbench.calibration.walk import Walk
from quantbench.quantization.grids import QParams, share_up

DRAWS = 10  # labels an example, where there are more classes

COSTLY = 10_000  # the task Hessian of this many weights takes 400 MB


@dataclass(frozen=True)
class Rounding(Method):
    """Round every weight by a fixed rule, without looking at data.

    Attributes:
        rule: ``nearest``, ``floor``, ``ceil`` or ``stochastic``: up with a probability of the
            distance from the code below, so that the rounding error is zero on average (Gupta et
            al. 2015).
        cost: write down what the rounding costs by the second-order term of the task loss, dw^T H
            dw (eq. 13), which figure 1 sets against accuracy; only for the first layer alone.

    """

    name: ClassVar[str] = "rounding"

    rule: str = "stochastic"
    cost: bool = False

    def __post_init__(self) -> None:
        """Reject an unknown rule."""
        if self.rule not in ("nearest", "floor", "ceil", "stochastic"):
            raise BadInput(
                f"rounding rule {self.rule!r}: choose nearest, floor, ceil or stochastic"
            )

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """Only one layer has a cost of its own, and only few weights a Hessian."""
        first = net.layers[0]
        if not self.cost or (scheme.which == "first" and first.params <= COSTLY):
            return None
        return f"the cost of eq. 13 is for the first layer alone, of up to {COSTLY} weights"

    def apply(self, job: Job) -> Job:
        """Round every layer."""
        q = job.start()
        for layer in q.layers():
            qp = weight_range(q, layer, job.calib)
            layer.set_codes(self.codes(layer.original, qp, job.rng), qp)
        if self.cost:
            job.log.numbers["cost"] = self.task_cost(q, job)
        q.calibrate_acts(job.calib)
        return job.done(q)

    def codes(self, w: Tensor, qp: QParams, rng: torch.Generator) -> Tensor:
        """Codes of weights."""
        if self.rule == "nearest":
            return qp.quantize(w)
        low, high = qp.bracket(w)
        if self.rule != "stochastic":
            return low if self.rule == "floor" else high
        up = torch.rand(w.shape, generator=rng).to(w.device) < share_up(w, qp)
        return torch.where(up, high, low)

    def task_cost(self, q: Quantized, job: Job) -> float:
        """dw^T H dw with H of the task loss, in full precision but for the layer (eq. 13)."""
        (layer,), walk = q.layers(), Walk(q, job.calib, asymmetric=False)
        walk.to(layer.info.name)
        h = task_hessian(walk.full, layer, DRAWS, job.rng)
        dw = (layer.weight - layer.original).flatten()
        return float(dw @ h @ dw)
