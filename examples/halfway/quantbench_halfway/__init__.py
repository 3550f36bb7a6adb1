"""Rounding with a threshold, the smallest method there is: put yours in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantbench import Job, Method, weight_range


@dataclass(frozen=True)
class Halfway(Method):
    """Round each weight down, unless its fraction exceeds a threshold.

    Attributes:
        threshold: fraction above which a weight is rounded up; 0.5 is rounding to nearest.

    """

    name: ClassVar[str] = "halfway"
    threshold: float = 0.5

    def apply(self, job: Job) -> Job:
        """One layer after the other."""
        q = job.start()
        for layer in q.layers():
            qp = weight_range(q, layer, job.calib)
            low, high = qp.bracket(layer.original)  # neighbouring codes below and above each weight
            up = layer.original / qp.scale + qp.zero - low > self.threshold
            layer.set_codes(high.where(up, low), qp)
        q.calibrate_acts(job.calib)
        return job.done(q)
