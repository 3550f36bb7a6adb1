"""The rounding schemes that AdaRound starts from (Nagel et al., ICML 2020, table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, weight_range
from quantbench.quantization.grids import QParams, share_up


@dataclass(frozen=True)
class Rounding(Method):
    """Round every weight by a fixed rule, without looking at data.

    Attributes:
        rule: ``nearest``, ``floor``, ``ceil`` or ``stochastic``: up with a probability of the
            distance from the code below, so that the rounding error is zero on average (Gupta et
            al. 2015).

    """

    name: ClassVar[str] = "rounding"

    rule: str = "stochastic"

    def __post_init__(self) -> None:
        """Reject an unknown rule."""
        if self.rule not in ("nearest", "floor", "ceil", "stochastic"):
            raise BadInput(
                f"rounding rule {self.rule!r}: choose nearest, floor, ceil or stochastic"
            )

    def apply(self, job: Job) -> Job:
        """Round every layer."""
        q = job.start()
        for layer in q.layers():
            qp = weight_range(q, layer, job.calib)
            layer.set_codes(self.codes(layer.original, qp, job.rng), qp)
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
