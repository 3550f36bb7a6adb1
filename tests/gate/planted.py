"""A method that rounds to nearest, and can be given one fault: what a change of code may do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from quantbench import Job, Method
from quantbench.calibration.weight_ranges import round_to_nearest
from quantbench.errors import Unsupported
from quantbench.quantization.grids import QParams
from quantbench.quantization.quantized import Quantized

FAULT = ""  # set by a test

LAYER = "layer2.0.conv1"


@dataclass(frozen=True)
class Planted(Method):
    """Nearest, unless ``FAULT`` says otherwise."""

    name: ClassVar[str] = "planted"
    batch_size: int = 64

    def apply(self, job: Job) -> Job:
        """Round every layer; then whatever the fault does."""
        four = job.scheme.weights.bits == 4
        if FAULT == "crash" and four:
            raise RuntimeError("planted")
        if FAULT == "unsupported" and four:
            raise Unsupported("planted: not for this network")
        calib = tuple(t[: len(t) // 2] for t in job.calib) if FAULT == "half" else job.calib
        q = job.start()
        for layer in q.layers():
            round_to_nearest(q, layer, job.calib)
        q.calibrate_acts(calib, batch_size=self.batch_size)
        FAULTS.get(FAULT, lambda _: None)(q)
        return job.done(q)


@dataclass(frozen=True)
class Later(Planted):
    """The method a version later: another default."""

    version: ClassVar[int] = 2
    batch_size: int = 32


def _rounded_down(q: Quantized) -> None:
    layer = q.layer(LAYER)
    assert layer.qparams
    qp = layer.qparams
    layer.set_codes(
        (torch.floor(layer.original / qp.scale) + qp.zero).clamp(qp.levels[0], qp.levels[-1]), qp
    )


def _scaled(q: Quantized) -> None:
    layer = q.layer(LAYER)
    assert layer.qparams
    assert layer.codes is not None
    qp = layer.qparams
    layer.set_codes(layer.codes.float(), QParams(qp.scale * 1.02, qp.zero, qp.levels))


def _swapped(q: Quantized) -> None:
    acts = list(q.act_quants().values())
    first = acts[0]
    other = next(a for a in acts if not torch.equal(a.zero, first.zero))
    first.zero, other.zero = other.zero, first.zero


def _cleared(q: Quantized) -> None:
    layer = q.layer(LAYER)
    assert layer.qparams
    assert layer.codes is not None
    layer.set_codes(torch.zeros_like(layer.codes, dtype=torch.float32), layer.qparams)


FAULTS: dict[str, Callable[[Quantized], None]] = {
    "rounded down": _rounded_down,
    "scale off by 2 %": _scaled,
    "zero points swapped": _swapped,
    "layer cleared": _cleared,
}
