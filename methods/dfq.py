"""DFQ on bias: absorption and analytic correction (Nagel et al., ICCV 2019).

High biases are absorbed by the next layer (section 4.1). The error eps = W~ - W of quantized
weights shifts a layer's output by eps E[x] (section 4.2); E[x] follows without data from the batch
norm of the layer before: its output is normal with mean beta and standard deviation gamma, and the
activation function clips it. The symbols are the paper's; a and b are the bounds of the activation
function. Equalization is in ``equalize``, the ranges of activations are in ``bn_ranges``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme
from quantbench.calibration.channel_statistics import STATISTICS, output_statistics
from quantbench.network.activation_functions import Activation, following_functions
from quantbench.network.channel_flow import links
from quantbench.network.folding import BatchNormStats
from quantbench.network.modules import Bounds, ChannelClamp
from quantbench.network.rewrite import Rewrite, change
from quantbench.optimization.bias_correction import Correction
from quantbench.quantization import papers
from quantbench.quantization.layers import QuantLayer
from quantbench.quantization.registry import make


@dataclass(frozen=True)
class AbsorbBias(Method):
    """High-bias absorption (section 4.1, "Absorbing high biases").

    A part c of every channel moves into the next layer.

    r(W x + b - c) = r(W x + b) - c wherever W x + b > c; so c = max(0, beta - 3 gamma), which a
    normal W x + b exceeds in 99.865 % of all cases. Layers are left alone where zeros are put
    around their output, since c would be missing there; a ceiling is lowered by c.

    Attributes:
        sigmas: how many gamma below beta.
        padded: absorb there, too, which is right but at the borders of images; the paper does not
            speak of padding.
        statistics: beta and gamma of ``batch_norm``; or ``measured``, mean and deviation on the
            calibration images, for checkpoints that come folded (ours).

    """

    name: ClassVar[str] = "absorb_bias"
    paper: ClassVar[Paper] = papers.DFQ
    sigmas: float = 3.0
    padded: bool = False
    statistics: str = "batch_norm"

    def __post_init__(self) -> None:
        """Reject unknown statistics."""
        _require_statistics(self.statistics)

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the scheme does not matter
        """Only networks that had batch norm."""
        return _without_batch_norm("bias absorption", net, self.statistics)

    def apply(self, job: Job) -> Job:
        """Every layer that is rectified, and read without padding or else if ``padded``."""
        rewrite = Rewrite(job.net)
        rectified = _rectified(job.net)
        known = output_statistics(job.net, job.calib, self.statistics)
        absorbed = 0
        for link in links(job.net):
            stats = known.get(link.layer)
            if stats is None or (link.padded and not self.padded) or link.layer not in rectified:
                continue
            c = (stats.mean - self.sigmas * stats.std).clamp(min=0)
            for at in link.clamps:
                c = torch.minimum(c, rewrite.bounds(at)[1][at.offset : at.offset + len(c)])
            rewrite.shift(link, c)
            absorbed += int((c > 0).sum())
        job.log.numbers["absorb_bias/channels"] = absorbed
        net = rewrite.network()
        job.log.numbers["absorb_bias/changed"] = change(job.net, net, job.calib)
        return replace(job, net=net)


@dataclass(frozen=True)
class AnalyticCorrection(Correction):
    """b <- b - eps E[x], E[x] from batch norm.

    Layers whose input does not come straight from one stay as they are, those that read a residual
    add among them.

    Attributes:
        statistics: as in :class:`AbsorbBias`; the output is taken to be normal either way.

    """

    name: ClassVar[str] = "analytic_bc"
    paper: ClassVar[Paper] = papers.DFQ
    statistics: str = "batch_norm"

    def __post_init__(self) -> None:
        """Reject unknown statistics."""
        _require_statistics(self.statistics)

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the scheme does not matter
        """Only networks that had batch norm."""
        return _without_batch_norm("analytic bias correction", net, self.statistics)

    @torch.no_grad()
    def correct(self, job: Job, q: Quantized) -> None:
        """Section 4.2.1, for every layer whose whole input is known."""
        known = expected_inputs(q.net, output_statistics(q.net, job.calib, self.statistics))
        for layer in q.layers():
            if (x := known.get(layer.info.name)) is not None:
                epsilon = layer.weight - layer.original
                layer.bias.sub_(_times_mean(layer, epsilon, x))  # E[eps x] = eps E[x]
        corrected = sum(layer.info.name in known for layer in q.layers())
        job.log.numbers["analytic_bc/layers"] = corrected


@dataclass(frozen=True)
class DFQ(Method):
    """Equalize, absorb high biases, round to nearest, set activation ranges, correct biases.

    Attributes:
        relu6: ``relu`` as in the paper, or ``clamp``, see
            :class:`~quantbench.methods.equalize.Equalize`.
        act_ranges: of activations: ``batch_norm``, without data as in the paper, or
            ``calibration``, by the scheme's estimator on the calibration images (ours).
        statistics: of every step that needs them, see :class:`AbsorbBias`; ``measured`` is not
            data-free.
        padded: see :class:`AbsorbBias`.

    """

    name: ClassVar[str] = "dfq"
    uses: ClassVar[tuple[str, ...]] = ("equalize", "nearest", "bn_ranges")
    paper: ClassVar[Paper] = papers.DFQ
    relu6: str = "relu"
    act_ranges: str = "batch_norm"
    statistics: str = "batch_norm"
    padded: bool = False

    def __post_init__(self) -> None:
        """Reject unknown variants."""
        _require_statistics(self.statistics)
        if self.act_ranges not in ("batch_norm", "calibration"):
            raise BadInput(f"act_ranges {self.act_ranges!r}: choose batch_norm or calibration")

    def steps(self) -> Method:
        """Figure 4 of the paper."""
        ranges = "+bn_ranges" if self.act_ranges == "batch_norm" else ""
        every = ("absorb_bias", "analytic_bc", *(("bn_ranges",) if ranges else ()))
        options: dict[str, str | bool] = {f"{s}.statistics": self.statistics for s in every}
        options |= {"equalize.relu6": self.relu6, "absorb_bias.padded": self.padded}
        steps: Method = make(f"equalize+absorb_bias+nearest{ranges}+analytic_bc", options)
        return steps

    def apply(self, job: Job) -> Job:
        """Run the steps."""
        return self.steps().apply(job)

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """The first step's reason that there is."""
        return self.steps().unsupported(net, scheme)


def _require_statistics(how: str) -> None:
    if how not in STATISTICS:
        raise BadInput(f"statistics {how!r}: choose {' or '.join(STATISTICS)}")


def _without_batch_norm(what: str, net: Network, how: str) -> str | None:
    """Why a step cannot work, if it cannot."""
    if net.batch_norm or how == "measured":
        return None
    return (
        f"{what} needs batch norm, and {net.name} has none: it comes folded or never had any; "
        "statistics='measured' takes mean and deviation from images"
    )


def expected_inputs(
    net: Network, known: Mapping[str, BatchNormStats] | None = None
) -> dict[str, Tensor]:
    """E[x] by input channel, (in,), of each layer that reads rectified batch norms alone.

    Args:
        net: full-precision network.
        known: statistics of layers' outputs; by default what batch norm knew.

    """
    known = net.batch_norm if known is None else known
    fa = following_functions(net)
    inputs: dict[str, list[tuple[int, Tensor]]] = {}
    for link in links(net):
        # a maximum on the way changes the mean
        for reader in link.readers if link.layer in known and not link.maxpooled else ():
            stats = known[link.layer]
            mean = clipped_mean(stats.mean, stats.std, *_bounds(fa[link.layer]))
            inputs.setdefault(reader.layer, []).append((reader.offset, mean))
    whole = {}
    for name, parts in inputs.items():
        x = torch.cat([mean for _, mean in sorted(parts, key=lambda part: part[0])])
        layer = net.model.get_submodule(name)
        if len(x) == getattr(layer, "in_channels", getattr(layer, "in_features", None)):
            whole[name] = x
    return whole


def clipped_mean(beta: Tensor, gamma: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """E[min(max(X, a), b)] of X normal with mean beta, deviation gamma (appendix C, both bounds).

    Args:
        beta: (n,) means.
        gamma: (n,) standard deviations; where 0, X is beta.
        a: lower bounds, finite or -inf, of a shape that broadcasts.
        b: upper bounds, finite or inf.

    """
    mean, std = beta.double(), gamma.double().clamp(min=torch.finfo(torch.float32).tiny)
    low, high = (a.double() - mean) / std, (b.double() - mean) / std
    inside = _cdf(high) - _cdf(low)
    total = mean * inside - std * (_density(high) - _density(low))
    total = total + torch.where(a.isfinite(), a.double() * _cdf(low), 0.0)
    total = total + torch.where(b.isfinite(), b.double() * _cdf(-high), 0.0)
    return total.float()


def _cdf(z: Tensor) -> Tensor:
    p: Tensor = torch.special.ndtr(z)
    return p


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def _bounds(fa: Activation) -> tuple[Tensor, Tensor]:
    """Bounds a and b of an activation function, one for all channels or (channels,)."""
    if isinstance(fa, Bounds | ChannelClamp):
        return fa.low, fa.high
    low = 0.0 if fa in (F.relu, F.relu6) else -math.inf
    return torch.tensor(low), torch.tensor(6.0 if fa is F.relu6 else math.inf)


def _rectified(net: Network) -> frozenset[str]:
    """Layers with ReLU or a clamp behind, which a shift passes through."""
    after = following_functions(net)
    return frozenset(
        i.name for i in net.layers if i.activation or isinstance(after[i.name], ChannelClamp)
    )


def _times_mean(layer: QuantLayer, weight: Tensor, x: Tensor) -> Tensor:
    """Output of a layer's weights for an input that is ``x`` (in,) everywhere, (out,)."""
    columns = weight.flatten(2).sum(2) if layer.info.kind == "conv" else weight  # (out, in/groups)
    grouped = columns.reshape(layer.groups, -1, columns.shape[1])
    return torch.einsum("goi,gi->go", grouped, x.reshape(layer.groups, -1)).flatten()
