"""The mean shift of every layer, measured: what quantization bias is, before anything mends it."""

from __future__ import annotations

from dataclasses import dataclass

from quantbench import Job, Method
from quantbench.calibration.shift import IMAGES, measure, record


@dataclass(frozen=True)
class Diagnose(Method):
    """Measures the shift and changes nothing; corrections do the same before and after they work.

    Attributes:
        stage: name under which the numbers are logged.
        images: how many calibration examples are looked at.

    """

    name = "diagnose"
    stage: str = "here"
    images: int = IMAGES

    def apply(self, job: Job) -> Job:
        """Measure and log."""
        record(job.log, self.stage, measure(job.need(), tuple(t[: self.images] for t in job.calib)))
        return job
