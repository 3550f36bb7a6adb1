"""Rewrites that make a network easier to quantize and leave its function unchanged.

Cross-layer equalization: Data-Free Quantization through Weight Equalization and Bias Correction
(Nagel et al., ICCV 2019). Inversely proportional factorization: Same, Same But Different (Meller et
al., ICML 2019). Dead channels: ours, what MobileNetV1 needs before either. The papers' symbols: W1,
b1 of a layer, W2, b2 of the layer that reads it, r the range of one channel's weights, s the factor
that a channel is divided by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

import torch
from torch import Tensor, nn

from quantbench import BadInput, Job, Method, Network, Paper
from quantbench.network.activation_functions import following_functions
from quantbench.network.channel_flow import links
from quantbench.network.hooks import forward, hooked
from quantbench.network.modules import NO_CEILING, ChannelClamp
from quantbench.network.rewrite import Rewrite
from quantbench.quantization import papers
from quantbench.system.tensors import Inputs


@dataclass(frozen=True)
class DeadChannels(Method):
    """Channels whose output is constant: their weights become 0, the constant goes into biases.

    Folding batch norm divides by sqrt(var + eps); where var is 0 the folded weights are large for
    no reason and set the range of the whole tensor. The constant goes into the channel's own bias;
    where no zeros are put around it on the way, it goes on into the bias of the layers that read
    it, and the weights that meet it become 0 too.

    Attributes:
        threshold: a channel is dead where var / (var + eps) of its batch norm is below this.

    """

    name: ClassVar[str] = "dead_channels"
    threshold: float = 0.5

    def apply(self, job: Job) -> Job:
        """Rewrite every layer that had a batch norm."""
        rewrite, fa = Rewrite(job.net), following_functions(job.net)
        ways = {link.layer: link for link in links(job.net)}
        found, elsewhere = [], []  # largest |w| of channels
        for name, stats in job.net.batch_norm.items():
            dead, r = stats.kept < self.threshold, rewrite.output_range(name)
            found += r[dead].tolist()
            elsewhere += r[~dead].tolist()
            rewrite.weight(name)[dead] = 0  # y = W x + b is constant, so y = E[y]
            rewrite.bias(name)[dead] = stats.mean[dead]
            rewrite.batch_norm[name] = replace(stats, std=stats.std.masked_fill(dead, 0))
            if name in ways and not ways[name].padded:
                constant = fa[name](stats.mean.reshape(1, -1)).flatten()
                rewrite.shift(ways[name], constant.masked_fill(~dead, 0))  # b2 += W2 f(E[y])
                rewrite.mute(ways[name], dead)  # W2 = 0
        job.log.numbers["dead_channels"] = len(found)
        if found and elsewhere:
            job.log.numbers |= {
                "dead_channels/largest": max(found),
                "dead_channels/median_elsewhere": median(elsewhere),
            }
        return replace(job, net=rewrite.network())


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
        rewrite, ways = Rewrite(net), links(net)
        extrema = _extrema(net, job.calib) if self.activations else {}
        job.log.numbers["equalize/spread_before"] = _spread(rewrite)
        for sweep in range(self.sweeps):
            job.progress(sweep, self.sweeps, "equalize")
            change = 0.0
            for way in ways:
                r1, r2 = rewrite.output_range(way.layer), rewrite.input_range(way)
                s = self.factors(r1, r2, extrema.get(way.layer))
                rewrite.divide(way, s)
                if self.activations:
                    extrema[way.layer] = extrema[way.layer] / s
                change = max(change, float(s.log().abs().max()))
            if change < self.tolerance:
                break
        job.log.numbers["equalize/spread_after"] = _spread(rewrite)
        job.log.numbers["equalize/sweeps"] = sweep + 1
        return replace(job, net=rewrite.network())

    def factors(self, r1: Tensor, r2: Tensor, a: Tensor | None) -> Tensor:
        """Compute s of every channel.

        It is 1 where one of the weight ranges is 0 and nothing can be balanced.
        """
        weight = torch.zeros_like(r1) if a is None else self.activations * (a > 0)
        ln_a = torch.zeros_like(r1) if a is None else torch.where(a > 0, a, 1.0).log()
        # eq. 11: s = sqrt(r1 r2) / r2 = sqrt(r1 / r2)
        ln_s = (r1.log() - r2.log() + weight * ln_a) / (2 + weight)
        return torch.where((r1 > 0) & (r2 > 0), ln_s.exp(), 1.0)


@dataclass(frozen=True)
class Factorize(Method):
    """Equalization by inversely proportional factorization, layer by layer from the input.

    Every channel is amplified until its weights or its activations reach the largest of the layer,
    whichever comes first, so that neither range grows. Activation extrema are those of the
    calibration images.
    """

    name: ClassVar[str] = "factorize"
    paper: ClassVar[Paper] = papers.MELLER

    def apply(self, job: Job) -> Job:
        """One pass over the layers."""
        rewrite = Rewrite(job.net)
        # of activations; scaling the layers before does not change them
        extrema = _extrema(job.net, job.calib)
        for pair in links(job.net):
            w, x = rewrite.output_range(pair.layer), extrema[pair.layer]
            s = torch.maximum(w / w.amax(), x / x.amax())
            rewrite.divide(pair, torch.where(s > 0, s, 1.0))
        return replace(job, net=rewrite.network())


def _spread(rewrite: Rewrite) -> float:
    """Bits lost to unequal channels: the mean over layers of log2(largest range / median)."""
    ranges = [rewrite.output_range(info.name) for info in rewrite.net.layers]
    alive = [r[r > 0] for r in ranges if (r > 0).any()]
    return float(torch.stack([(r.max() / r.median()).log2() for r in alive]).mean())


@torch.no_grad()
def _extrema(net: Network, inputs: Inputs) -> dict[str, Tensor]:
    """Largest |value| of each channel behind each layer's activation function, (out,) each."""
    after = following_functions(net)
    outs = {i.name: i.shape[1 if i.kind == "embedding" else 0] for i in net.layers}
    seen = {name: torch.zeros(out, device=net.device) for name, out in outs.items()}
    axis = {i.name: 1 if i.kind == "conv" else -1 for i in net.layers}

    def look(name: str, z: Tensor) -> None:
        channels = after[name](z).movedim(axis[name], 0).flatten(1)
        seen[name] = torch.maximum(seen[name], channels.abs().amax(1))

    layers = ((n, net.model.get_submodule(n)) for n in seen)
    with hooked(
        *(layer.register_forward_hook(lambda _m, _x, z, n=n: look(n, z)) for n, layer in layers)
    ):
        forward(net.model, inputs)
    return seen


def _without_ceilings(net: Network) -> Network:
    """Another function: without ReLU6's ceilings, or what an earlier step made of them."""
    rewrite = Rewrite(net)
    for name, module in net.model.named_modules():
        if isinstance(module, nn.ReLU6 | ChannelClamp):
            zero = torch.zeros(1, device=net.device)
            low = module.low if isinstance(module, ChannelClamp) else zero
            rewrite.put(name, ChannelClamp(low, torch.full_like(low, NO_CEILING)))
    return rewrite.network()
