"""Cross-layer equalization: Data-Free Quantization through Weight Equalization and Bias Correction.

Nagel et al., ICCV 2019, section 4.1. The function of the network stays. The paper's symbols: W1, b1
of a layer, W2, b2 of the layer that reads it, r the range of one channel's weights, s the factor
that a channel is divided by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from quantbench import BadInput, Job, Method, Network, Paper
from quantbench.calibration.channel_statistics import channel_extremes
from quantbench.network.channel_flow import links
from quantbench.network.modules import NO_CEILING, ChannelClamp
from quantbench.network.rewrite import Rewrite, change
from quantbench.quantization import papers


@dataclass(frozen=True)
class Equalize(Method):
    """Cross-layer range equalization (section 4.1), layer after layer until nothing changes.

    DFQ makes the ranges of weights meet: r1 / s = r2 s, eq. 11. That spreads the ranges of
    activations, which matters where these are quantized per tensor. ``activations`` above 0 (ours)
    lets their range a take part: s then minimizes ln(r1/s)^2 + ln(r2 s)^2 + activations *
    ln(a/s)^2, of which eq. 11 is the case 0.

    Attributes:
        activations: weight of the activations' ranges; 0 is the paper's method and needs no data, 1
            treats the three ranges alike.
        relu6: ``clamp`` gives every channel its own ceiling 6 / s, so that full precision is
            unchanged; ``relu`` removes the ceiling, as the paper does.
        sweeps: at most so many passes over all layers.
        tolerance: converged when no ln s exceeds this in a pass.

    """

    name: ClassVar[str] = "equalize"
    paper: ClassVar[Paper] = papers.DFQ
    activations: float = 0.0
    relu6: str = "clamp"
    sweeps: int = 100
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Reject an unknown treatment of ReLU6."""
        if self.relu6 not in ("clamp", "relu"):
            raise BadInput(f"relu6 {self.relu6!r}: choose clamp or relu")
        if self.sweeps < 1 or self.activations < 0:
            raise BadInput(
                f"{self.sweeps} sweeps, activations {self.activations}: at least 1 and at least 0"
            )

    def apply(self, job: Job) -> Job:
        """Appendix A: iterate over pairs of layers."""
        net = _without_ceilings(job.net) if self.relu6 == "relu" else job.net
        job.log.numbers["equalize/changed"] = change(job.net, net, job.calib)
        rewrite, ways = Rewrite(net), links(net)
        seen = channel_extremes(net, job.calib) if self.activations else {}
        extrema = {name: e.after for name, e in seen.items()}
        job.log.numbers["equalize/spread_before"] = _spread(rewrite)
        for sweep in range(self.sweeps):
            job.progress(sweep, self.sweeps, "equalize")
            largest = 0.0
            for way in ways:
                r1, r2 = rewrite.output_range(way.layer), rewrite.input_range(way)
                s = self.factors(r1, r2, extrema.get(way.layer))
                rewrite.divide(way, s)
                if self.activations:
                    extrema[way.layer] = extrema[way.layer] / s
                largest = max(largest, float(s.log().abs().max()))
            if largest < self.tolerance:
                break
        job.log.numbers["equalize/spread_after"] = _spread(rewrite)
        job.log.numbers["equalize/sweeps"] = sweep + 1
        return replace(job, net=rewrite.same_function(job.calib))

    def factors(self, r1: Tensor, r2: Tensor, a: Tensor | None) -> Tensor:
        """Compute s of every channel.

        It is 1 where one of the weight ranges is 0 and nothing can be balanced.
        """
        weight = torch.zeros_like(r1) if a is None else self.activations * (a > 0)
        ln_a = torch.zeros_like(r1) if a is None else torch.where(a > 0, a, 1.0).log()
        # eq. 11: s = sqrt(r1 r2) / r2 = sqrt(r1 / r2)
        ln_s = (r1.log() - r2.log() + weight * ln_a) / (2 + weight)
        return torch.where((r1 > 0) & (r2 > 0), ln_s.exp(), 1.0)


def _spread(rewrite: Rewrite) -> float:
    """Bits lost to unequal channels: the mean over layers of log2(largest range / median)."""
    ranges = [rewrite.output_range(info.name) for info in rewrite.net.layers]
    alive = [r[r > 0] for r in ranges if (r > 0).any()]
    return float(torch.stack([(r.max() / r.median()).log2() for r in alive]).mean())


def _without_ceilings(net: Network) -> Network:
    """Another function: without ReLU6's ceilings, or what an earlier step made of them."""
    rewrite = Rewrite(net)
    for name, module in net.model.named_modules():
        if isinstance(module, nn.ReLU6 | ChannelClamp):
            zero = torch.zeros(1, device=net.device)
            low = module.low if isinstance(module, ChannelClamp) else zero
            rewrite.put(name, ChannelClamp(low, torch.full_like(low, NO_CEILING)))
    return rewrite.network()
