"""Inversely proportional factorization: Same, Same But Different (Meller et al., ICML 2019).

The equalization of "Fighting Quantization Bias With Bias", by the same authors. The paper's
algorithm is read from the code that its authors released, whose symbols are used here: f the factor
that an output channel of a layer is multiplied by (and the weights that read it divided by), w and
x the largest |weight| and |activation| of a channel, k the largest |weight| that reads it, as a
share of the reading layer's largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from quantbench import BadInput, Job, Method, Network, Paper
from quantbench.calibration.channel_statistics import Extremes, channel_extremes
from quantbench.network.channel_flow import Link, links
from quantbench.network.rewrite import Rewrite, change
from quantbench.quantization import papers


@dataclass(frozen=True)
class Factorize(Method):
    """Equalization by inversely proportional factorization, layer by layer from the input.

    Every channel is amplified until its weights or its activations reach the largest of the layer,
    whichever comes first, so that neither range grows. Activation extrema are those of the
    calibration images.

    Layers whose output goes into a residual add are left alone; the released code gives all layers
    of an add one factor.

    Attributes:
        steps: ``two``: before that, each channel is attenuated by k, so far as the weights that
            read it may grow without the reading layer's range growing; ``one``: without that;
            ``released``: where more than one layer reads the channel, which is where the released
            code attenuates. With ``two``, fold dead channels away first: the weights that read
            those may be the layer's largest, and all others are attenuated then.
        max_gain: activations are amplified by at most so much (released code); 0 for no limit.
        pre_activation: amplify no channel so far that its lowest value before the activation
            function exceeds the layer's largest activation (released code, where it is an option
            for processors that keep this value in few bits).
        align: scale layers that are concatenated to the largest activation among them, so that they
            share one range (released code).
        relu6_floor: no channel before a ReLU6 gets a factor below this (released code); 0 for none.
        relu6: ``clamp`` gives every channel its own ceiling 6 f, so that full precision is
            unchanged (ours); ``keep`` leaves ReLU6 as it is, as the released code does: exact for a
            channel with f above 1 that does not come near 6, another function below 1.

    """

    name: ClassVar[str] = "factorize"
    paper: ClassVar[Paper] = papers.MELLER
    steps: str = "released"
    max_gain: float = 16.0
    pre_activation: bool = True
    align: bool = True
    relu6_floor: float = 0.7
    relu6: str = "clamp"

    def __post_init__(self) -> None:
        """Reject unknown variants."""
        if self.steps not in ("one", "two", "released"):
            raise BadInput(f"steps {self.steps!r}: choose one, two or released")
        if self.relu6 not in ("clamp", "keep"):
            raise BadInput(f"relu6 {self.relu6!r}: choose clamp or keep")
        if 0 < self.max_gain < 1 or not 0 <= self.relu6_floor <= 1:
            raise BadInput(
                f"max_gain {self.max_gain}, relu6_floor {self.relu6_floor}: 0 or at least 1, and 0 "
                "to 1"
            )

    def apply(self, job: Job) -> Job:
        """One pass over the layers."""
        rewrite, ways = Rewrite(job.net), links(job.net)
        # of activations; scaling the layers before does not change them
        extremes = channel_extremes(job.net, job.calib)
        together = _concatenated(ways)
        for link in ways:
            f = self.factors(rewrite, link, extremes[link.layer])
            if self.align and len(together[link.layer]) > 1:
                largest = torch.stack([extremes[n].after.amax() for n in together[link.layer]])
                f = f * largest.amax() / (extremes[link.layer].after * f).amax().clamp(min=_TINY)
            if link.clamps:
                f = f.clamp(min=self.relu6_floor)
            rewrite.divide(link, 1 / f)
        if self.relu6 == "clamp":
            return replace(job, net=rewrite.same_function(job.calib))
        _keep_relu6(rewrite, job.net)
        net = rewrite.network()
        job.log.numbers["factorize/changed"] = change(job.net, net, job.calib)
        return replace(job, net=net)

    def factors(self, rewrite: Rewrite, link: Link, seen: Extremes) -> Tensor:
        """Compute f of every channel: as far as weights and activations allow."""
        w, x = rewrite.output_range(link.layer), seen.after
        k = torch.ones_like(w)
        if self.steps == "two" or (self.steps == "released" and len(link.readers) > 1):
            k = rewrite.input_share(link)
        by_weight = (w * k).amax() / w.clamp(min=_TINY)
        by_act = (x * k).amax() / x.clamp(min=_TINY)
        if self.max_gain:
            by_act = by_act.clamp(max=self.max_gain)
        f = torch.minimum(by_weight, by_act)
        if self.pre_activation:
            limit = (x * k).amax() / seen.low.abs().clamp(min=_TINY)
            f = torch.minimum(f, limit.clamp(min=1))
        return torch.where((w > 0) | (x > 0), f, 1.0)


_TINY = 1e-30


def _concatenated(ways: tuple[Link, ...]) -> dict[str, set[str]]:
    """Layers that are read together with a layer, itself among them: they share a tensor."""
    read: dict[str, set[str]] = {}
    for link in ways:
        for reader in link.readers:
            read.setdefault(reader.layer, set()).add(link.layer)
    return {
        link.layer: set().union({link.layer}, *(read[r.layer] for r in link.readers))
        for link in ways
    }


def _keep_relu6(rewrite: Rewrite, net: Network) -> None:
    """Put the ReLU6 modules back that scaling has given bounds."""
    for name, module in net.model.named_modules():
        if isinstance(module, nn.ReLU6):
            rewrite.put(name, nn.ReLU6())
