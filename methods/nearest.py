"""Rounding to nearest: the baseline of every paper, with any range estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantbench import Job, Method
from quantbench.calibration.weight_ranges import round_to_nearest


@dataclass(frozen=True)
class Nearest(Method):
    """Each weight goes to the nearest level of its grid.

    Activation ranges come from the calibration set.
    """

    name: ClassVar[str] = "nearest"

    def apply(self, job: Job) -> Job:
        """Round every layer."""
        q = job.start()
        for layer in q.layers():
            round_to_nearest(q, layer, job.calib)
        q.calibrate_acts(job.calib)
        return job.done(q)
