"""Dead channels: ours, what the MobileNets need before their weights are equalized.

A channel is dead if its output is the same for every input. Its weights do nothing, but they take
part in ranges: folding batch norm divides by sqrt(var + eps), and where var is 0 the folded weights
are large for no reason; or they have decayed to 1e-20, so that equalization multiplies the channel
by 1e10 and its constant with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method
from quantbench.calibration.channel_statistics import channel_extremes
from quantbench.network.activation_functions import following_functions
from quantbench.network.channel_flow import links
from quantbench.network.rewrite import Rewrite, change

ALMOST = 0.1  # of the output's deviation: channels that batch norm calls dead may vary a little


@dataclass(frozen=True)
class DeadChannels(Method):
    """Channels whose output is constant: their weights become 0, the constant goes into biases.

    The constant goes into the channel's own bias; where no zeros are put around it on the way, it
    goes on into the bias of the layers that read it, and the weights that meet it become 0 too.

    Attributes:
        threshold: a channel is dead where var / (var + eps) of its batch norm is below this. Some
            of those vary by a few per cent of what their layer does; that is then lost.
        spread: a channel is dead as well where, over all calibration images and positions, its
            output before the activation function varies by no more than this share of what the
            layer's most variable channel does. So dead channels are found where a checkpoint comes
            folded. The constant is then what the network computes, else the batch norm's mean,
            which may be another. A channel that reads only what is silent on these images counts
            as dead: give enough of them. 0 asks batch norm alone.

    """

    name: ClassVar[str] = "dead_channels"
    threshold: float = 0.5
    spread: float = 1e-5

    def __post_init__(self) -> None:
        """Reject a share that would call channels dead that are not."""
        if not 0 <= self.spread < 0.1:
            raise BadInput(f"spread {self.spread}: a share of the largest spread, 0 to 0.1")

    def apply(self, job: Job) -> Job:
        """Rewrite every layer that has dead channels."""
        rewrite, fa = Rewrite(job.net), following_functions(job.net)
        ways = {link.layer: link for link in links(job.net)}
        found, elsewhere = [], []  # largest |w| of channels
        for name, (dead, constant) in self.constants(job).items():
            r = rewrite.output_range(name)
            found += r[dead].tolist()
            elsewhere += r[~dead].tolist()
            rewrite.weight(name)[dead] = 0  # y = W x + b is constant, so y = E[y]
            rewrite.bias(name)[dead] = constant[dead]
            if stats := rewrite.batch_norm.get(name):
                mean = torch.where(dead, constant, stats.mean)
                std = stats.std.masked_fill(dead, 0)
                rewrite.batch_norm[name] = replace(stats, mean=mean, std=std)
            if name in ways and not ways[name].padded:
                y = fa[name](constant.reshape(1, -1)).flatten()
                rewrite.shift(ways[name], y.masked_fill(~dead, 0))  # b2 += W2 f(E[y])
                rewrite.mute(ways[name], dead)  # W2 = 0
        job.log.numbers["dead_channels"] = len(found)
        if found and elsewhere:
            job.log.numbers |= {
                "dead_channels/largest": max(found),
                "dead_channels/median_elsewhere": median(elsewhere),
            }
        net = rewrite.same_function(job.calib, within=ALMOST)
        job.log.numbers["dead_channels/changed"] = change(job.net, net, job.calib)
        return replace(job, net=net)

    def constants(self, job: Job) -> dict[str, tuple[Tensor, Tensor]]:
        """Which channels of each layer are dead, and their constants: (out,) each, by layer."""
        seen = channel_extremes(job.net, job.calib) if self.spread else {}
        found = {}
        for info in job.net.layers:
            name, stats = info.name, job.net.batch_norm.get(info.name)
            if info.kind == "embedding" or info.calls > 1:
                continue
            if name in seen:
                low, high = seen[name].low, seen[name].high
                dead, constant = high - low <= self.spread * (high - low).amax(), (low + high) / 2
                if stats is not None:  # whose mean may be older than the weights
                    constant = torch.where(dead, constant, stats.mean)
                    dead = dead | (stats.kept < self.threshold)
                found[name] = dead, constant
            elif stats is not None:
                found[name] = stats.kept < self.threshold, stats.mean
        return found
