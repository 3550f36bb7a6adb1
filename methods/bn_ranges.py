"""Activation ranges without data: DFQ (Nagel et al., ICCV 2019), section 5.

A batch norm says of every channel that its output has mean beta and standard deviation gamma. The
range of a tensor is taken to be beta +- n gamma, over all its channels, as the functions between
the batch norm and the tensor leave it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme
from quantbench.calibration.channel_statistics import STATISTICS, output_statistics
from quantbench.calibration.shift import per_channel
from quantbench.network.hooks import forward, hooked
from quantbench.optimization.bias_correction import at_layers
from quantbench.quantization import papers
from quantbench.quantization.layers import QuantLayer
from quantbench.quantization.ranges import estimate
from quantbench.system.tensors import Inputs


@dataclass(frozen=True)
class BatchNormRanges(Method):
    """Set every activation quantizer from batch norm, whatever a step before has calibrated.

    The network's own input has no batch norm; its range is that of the calibration images, which
    for images is known without any. A residual add is given the sum of its operands' ranges, on
    which the paper is silent.

    Attributes:
        sigmas: n, how many gamma around beta; 6 in the paper.
        statistics: ``batch_norm``; or ``measured``, mean and deviation on the calibration images,
            for checkpoints that come folded: no longer without data (ours).

    """

    name: ClassVar[str] = "bn_ranges"
    paper: ClassVar[Paper] = papers.DFQ
    sigmas: float = 6.0
    statistics: str = "batch_norm"

    def __post_init__(self) -> None:
        """Reject unknown statistics."""
        if self.statistics not in STATISTICS:
            raise BadInput(f"statistics {self.statistics!r}: choose {' or '.join(STATISTICS)}")

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """Only networks that had batch norm behind every layer but the last."""
        if self.statistics == "measured" or scheme.acts is None:
            return None
        without = [i.name for i in net.layers[:-1] if i.name not in net.batch_norm]
        if not without:
            return None
        return (
            f"data-free ranges need a batch norm behind every layer but the last, and {net.name} "
            f"has none behind {len(without)} of {len(net.layers)}, {without[0]} the first: it "
            "comes folded or never had any; statistics='measured' takes them from images"
        )

    @torch.no_grad()
    def apply(self, job: Job) -> Job:
        """Let beta - n gamma, then beta + n gamma, go through what lies between the layers.

        All that lies between is monotone, so that bounds stay bounds.
        """
        q = job.need()
        stats = output_statistics(q.net, job.calib, self.statistics)
        low = self.reached(
            q, job.calib, {n: s.mean - self.sigmas * s.std for n, s in stats.items()}
        )
        top = self.reached(
            q, job.calib, {n: s.mean + self.sigmas * s.std for n, s in stats.items()}
        )
        for name, act in q.act_quants().items():
            ends = torch.stack([low[name][0], top[name][1]])
            act.set(estimate(ends, replace(act.grid, range="minmax")))
        return job

    def reached(
        self, q: Quantized, inputs: Inputs, outputs: dict[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Least and largest value at every quantizer where layers put out ``outputs`` (out,)."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}

        def instead(layer: QuantLayer, _: nn.Module, __: Inputs, z: Tensor) -> Tensor | None:
            info = layer.info
            if info.name not in outputs:
                return None
            return per_channel(outputs[info.name], z, info).expand_as(z)

        def look(name: str, x: Tensor) -> None:
            low, high = seen.get(name, (x.amin(), x.amax()))
            seen[name] = torch.minimum(low, x.amin()), torch.maximum(high, x.amax())

        acts = q.act_quants().items()
        hooks = (a.register_forward_pre_hook(lambda _, x, n=n: look(n, x[0])) for n, a in acts)
        with q.full_precision_acts(), at_layers(q, q.model, instead), hooked(*hooks):
            forward(q.model, inputs)
        return seen
