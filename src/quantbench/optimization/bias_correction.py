"""What methods share that change nothing but biases."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from quantbench.calibration import shift
from quantbench.errors import BadInput
from quantbench.network.hooks import hooked
from quantbench.quantization.method import Job, Method
from quantbench.quantization.quantized import Quantized
from quantbench.system.tensors import Inputs


class Correction(Method):
    """A method that changes biases only, with the shift measured before and after."""

    def apply(self, job: Job) -> Job:
        """Measure, correct, measure."""
        q = job.need()
        looked_at = tuple(t[: shift.IMAGES] for t in job.calib)
        shift.record(job.log, "before", shift.measure(q, looked_at))
        self.correct(job, q)
        shift.record(job.log, "after", shift.measure(q, looked_at))
        return job

    @abstractmethod
    def correct(self, job: Job, q: Quantized) -> None:
        """Change the biases of ``q``."""


def draw(calib: Inputs, n: int, rng: torch.Generator) -> Inputs:
    """``n`` calibration examples; draws of different sizes from equal generators are nested."""
    size = calib[0].shape[0]
    if n > size:
        raise BadInput(f"bias correction is to use {n} images, and the calibration set has {size}")
    chosen = torch.randperm(size, generator=rng)[:n]
    return tuple(t[chosen] for t in calib)


def at_layers(
    q: Quantized, model: nn.Module, hook: Callable[..., Tensor | None]
) -> AbstractContextManager[None]:
    """Call a hook at every layer of ``model`` inside the block.

    Its arguments are (quantized layer, module, inputs, output).
    """
    modules = [(layer, model.get_submodule(layer.info.name)) for layer in q.layers()]
    return hooked(*(m.register_forward_hook(partial(hook, layer)) for layer, m in modules))
