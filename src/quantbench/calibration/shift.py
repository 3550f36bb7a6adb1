"""Diagnosis: how far quantization moves the mean of every channel, layer by layer.

Fighting Quantization Bias With Bias (Finkelstein et al. 2019, arXiv 1906.03193) traces the loss of
accuracy to this shift and names two measures, MSSR (mean activation shift to signal ratio) and
rQNSR (root of the quantization noise to signal ratio). Its formulas could not be found; those used
here are in :class:`LayerShift`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import linear_regression

import torch
from torch import Tensor, nn

from quantbench.network.hooks import batches, hooked
from quantbench.network.tracing import LayerInfo
from quantbench.quantization.method import Log
from quantbench.quantization.quantized import Quantized
from quantbench.system.tensors import Inputs

SUMMARIES = ("mssr", "rqnsr", "share")

# examples that a diagnosis looks at: the standard error of a channel's mean is then far below its
# shift
IMAGES = 64


def channel_mean(z: Tensor, info: LayerInfo) -> Tensor:
    """Mean of every output channel of a layer: over examples and positions, (out,)."""
    return z.flatten(2).mean((0, 2)) if info.kind == "conv" else z.flatten(0, -2).mean(0)


def per_channel(c: Tensor, z: Tensor, info: LayerInfo) -> Tensor:
    """View of ``c`` (out,) that broadcasts over a layer's output ``z``."""
    return c.reshape((-1,) + (1,) * (z.dim() - 2)) if info.kind == "conv" else c


@dataclass(frozen=True, eq=False)
class LayerShift:
    """What quantization does to one layer's z, before its activation function: d = z_q - z_fp.

    Attributes:
        shift: E[d] of every channel, (out,).
        noise: E[d^2] of every channel, (out,).
        signal: variance of z_fp of every channel, (out,).

    """

    shift: Tensor
    noise: Tensor
    signal: Tensor

    @property
    def mssr(self) -> float:
        """Root of sum_c E[d]^2 over sum_c Var[z_fp]."""
        return math.sqrt(_ratio(self.shift.square(), self.signal))

    @property
    def rqnsr(self) -> float:
        """Root of sum_c E[d^2] over sum_c Var[z_fp]."""
        return math.sqrt(_ratio(self.noise, self.signal))

    @property
    def share(self) -> float:
        """Part of the error that is the shift, 0 to 1.

        E[d^2] = E[d]^2 + Var[d]; equals (MSSR / rQNSR)^2.
        """
        return _ratio(self.shift.square(), self.noise)


def _ratio(a: Tensor, b: Tensor) -> float:
    """Quotient of sums; 0 where there is nothing at all."""
    return float(a.sum() / b.sum()) if float(b.sum()) > 0 else 0.0


@torch.no_grad()
def measure(q: Quantized, inputs: Inputs, *, batch_size: int = 16) -> dict[str, LayerShift]:
    """Shift, noise and signal of every layer, in execution order.

    The last one is the network's own output.

    Args:
        q: a quantized network.
        inputs: examples, all of which are used.
        batch_size: how many at a time; the outputs of all layers of one batch are held in memory.

    """
    infos = {info.name: info for info in q.infos}
    sums: dict[str, list[Tensor]] = {}
    for batch in batches(inputs, batch_size):
        x = tuple(t.to(q.net.device) for t in batch)
        with _outputs(q.net.model, infos) as exact:
            q.net.model(*x)
        with _outputs(q.model, infos) as coarse:
            q.model(*x)
        for name, info in infos.items():
            z, d = exact[name].double(), (coarse[name] - exact[name]).double()
            moments = [channel_mean(m, info) * len(z) for m in (d, d * d, z, z * z)]
            old = sums.get(name, [torch.zeros_like(moments[0])] * 4)
            sums[name] = [a + b for a, b in zip(old, moments, strict=True)]
    n = inputs[0].shape[0]
    found = {}
    for name, (d, dd, z, zz) in sums.items():
        found[name] = LayerShift(d / n, dd / n, (zz / n - (z / n).square()).clamp(min=0))
    return found


@contextmanager
def _outputs(model: nn.Module, names: dict[str, LayerInfo]) -> Iterator[dict[str, Tensor]]:
    """Copies of what the layers put out; copies, since an in-place addition may follow."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, z: Tensor) -> None:
        seen[name] = z.clone()

    layers = [(n, model.get_submodule(n)) for n in names]
    with hooked(
        *(layer.register_forward_hook(lambda _m, _x, z, n=n: keep(n, z)) for n, layer in layers)
    ):
        yield seen


def record(log: Log, stage: str, found: dict[str, LayerShift]) -> None:
    """Put a diagnosis into a log.

    Curves ``shift/<stage>/mssr``, ``rqnsr`` and ``share`` have one value per layer in execution
    order, ``shift/<stage>/<number> <layer>`` one per channel, in standard deviations of the layer;
    numbers ``shift/<stage>/output_mssr``, ``output_rqnsr`` and ``output_share`` are those of the
    last layer, ``growth`` is :func:`growth`.
    """
    for key in SUMMARIES:
        log.curves[f"shift/{stage}/{key}"] = [getattr(layer, key) for layer in found.values()]
    for i, (name, layer) in enumerate(found.items()):
        unit = max(float(layer.signal.mean()) ** 0.5, torch.finfo(torch.float32).tiny)
        log.curves[f"shift/{stage}/{i:03d} {name}"] = (layer.shift / unit).tolist()
        if i == len(found) - 1:
            log.numbers |= {f"shift/{stage}/output_{key}": getattr(layer, key) for key in SUMMARIES}
    log.numbers[f"shift/{stage}/growth"] = growth(log.curves[f"shift/{stage}/mssr"])


def growth(mssr: Sequence[float]) -> float:
    """Growth of the shift from first to last layer, along the line that fits ln MSSR best.

    1 where fewer than two layers have a shift at all.
    """
    points = [(i, math.log(v)) for i, v in enumerate(mssr) if v > 0]
    if len(points) < 2:
        return 1.0
    slope, _ = linear_regression(*zip(*points, strict=True))
    return math.exp(slope * (len(mssr) - 1))
