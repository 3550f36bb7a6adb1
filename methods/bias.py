"""IBC and BFT: Fighting Quantization Bias With Bias (Finkelstein et al. 2019).

Quantization shifts the mean of activations, layer by layer, and the shift builds up. Both methods
put a constant into each channel's bias b_c: IBC measures it, BFT trains it. x_fp and x_q are the
output of a layer in the full-precision and in the quantized network.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench import BadInput, Job, Paper, Quantized, Unsupported
from quantbench.calibration import shift
from quantbench.calibration.shift import channel_mean, per_channel
from quantbench.network.activation_functions import following_functions
from quantbench.network.hooks import batches
from quantbench.optimization.bias_correction import Correction, at_layers, draw
from quantbench.optimization.descent import cosine, minimise
from quantbench.quantization import papers
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel
from quantbench.system.tensors import Inputs


@dataclass(frozen=True)
class IBC(Correction):
    """Iterative bias correction: b_c += E[x_fp,c] - E[x_q,c], layer after layer.

    Attributes:
        images: how many unlabelled images, drawn from the calibration set; 8 in the paper. They go
            through the network at once.
        after_activation: take the means after the activation function that follows the layer, as
            the text does, or before. Before, what is added is the shift itself; but a layer whose
            peaks a coarse grid has cut gets its mean back by pushing them further down, and the
            signal dies out layer by layer.
        predecessors: what has been done to the layers before when one is measured: ``corrected`` is
            IBC; ``uncorrected`` measures all layers at once; ``full_precision`` feeds every layer
            the full-precision network's input, so that it answers for its own error only.
        quantized_acts: measure x_q with activations quantized; ``False`` quantizes weights alone
            meanwhile, as open tools for bias correction do.

    """

    name: ClassVar[str] = "ibc"
    paper: ClassVar[Paper | None] = papers.BIAS
    images: int = 8
    after_activation: bool = True
    predecessors: str = "corrected"
    quantized_acts: bool = True

    def __post_init__(self) -> None:
        """Reject unknown ablations and impossible numbers of images."""
        if self.predecessors not in ("corrected", "uncorrected", "full_precision"):
            raise BadInput(
                f"predecessors {self.predecessors!r}: choose corrected, uncorrected or "
                "full_precision"
            )
        if self.images < 1:
            raise BadInput(f"{self.images} images: bias correction needs at least one")

    @torch.no_grad()
    def correct(self, job: Job, q: Quantized) -> None:
        """One pass of each network suffices.

        When a layer runs, those before it have run and are corrected.
        """
        images = draw(job.calib, self.images, job.rng)
        fa = following_functions(q.net) if self.after_activation else {}
        target: dict[str, Tensor] = {}  # E[x_fp]
        delta: dict[str, Tensor] = {}  # E[x_fp] - E[x_q]

        def mean(layer: QuantLayer, z: Tensor) -> Tensor:
            return channel_mean(fa[layer.info.name](z) if fa else z, layer.info)

        def exact(layer: QuantLayer, _: nn.Module, x: Inputs, z: Tensor) -> None:
            name = layer.info.name
            target[name] = mean(layer, z)
            if self.predecessors == "full_precision":
                delta[name] = target[name] - mean(layer, layer(x[0]))

        def coarse(layer: QuantLayer, _: nn.Module, __: Inputs, z: Tensor) -> Tensor | None:
            name = layer.info.name
            delta[name] = target[name] - mean(layer, z)
            if self.predecessors == "uncorrected":
                return None
            layer.bias.add_(delta[name])  # b_c += E[x_fp,c] - E[x_q,c]
            # the same for what is on its way to the next layer
            return z + per_channel(delta[name], z, layer.info)

        with nullcontext() if self.quantized_acts else q.full_precision_acts():
            with at_layers(q, q.net.model, exact):
                q.net.model(*images)
            if self.predecessors != "full_precision":
                with at_layers(q, q.model, coarse):
                    q.model(*images)
        if self.predecessors != "corrected":
            for layer in q.layers():
                layer.bias.add_(delta[layer.info.name])


@dataclass(frozen=True)
class BiasCorrection(IBC):
    """One-shot bias correction: all layers from one look at the uncorrected network.

    It is what IBC is compared with.

    Attributes:
        images: as in IBC, with another default.
        after_activation: before it by default, as bias correction from data is elsewhere.
        predecessors: as in IBC, with another default.

    """

    name: ClassVar[str] = "bias_correction"
    paper: ClassVar[Paper | None] = None
    images: int = 64
    after_activation: bool = False
    predecessors: str = "uncorrected"


@dataclass(frozen=True)
class BFT(Correction):
    """Bias fine-tuning: weights stay, biases are distilled from the full-precision network.

    The paper's optimiser, schedule and loss could not be found; these are ours (KL divergence from
    the full-precision network's output, Adam). Every bias moves in
    units of its channel's standard deviation, so that one learning rate serves all channels,
    however they were scaled.

    Attributes:
        images: how many unlabelled images, drawn from the calibration set; 1,000 in the paper. 0
            takes all.
        epochs: passes over them.
        batch_size: images per step.
        lr: Adam's learning rate, in standard deviations, annealed to 0 by a cosine.

    """

    name: ClassVar[str] = "bft"
    paper: ClassVar[Paper] = papers.BIAS
    images: int = 1000
    epochs: int = 4
    batch_size: int = 16
    lr: float = 0.01

    def __post_init__(self) -> None:
        """Reject what cannot train."""
        if self.images < 0 or self.epochs < 1 or self.batch_size < 1:
            raise BadInput(
                f"{self.images} images, {self.epochs} epochs, batches of {self.batch_size}: none "
                "may be below 1"
            )

    def correct(self, job: Job, q: Quantized) -> None:
        """Minimise KL(p_fp || p_q) over the biases."""
        images = draw(job.calib, self.images or job.calib[0].shape[0], job.rng)
        spread = shift.measure(q, tuple(t[: shift.IMAGES] for t in images))
        unit = {n: s.signal.sqrt().float() for n, s in spread.items()}  # of every channel's steps
        iterations = self.epochs * -(-len(images[0]) // self.batch_size)
        images = parallel.share(images)
        teacher = _outputs(q.net.model, images)
        classes = _classes(teacher)
        teacher = teacher.log_softmax(classes)
        biases = {layer.info.name: layer.bias for layer in q.layers()}
        steps = {n: torch.zeros_like(b, requires_grad=True) for n, b in biases.items()}
        optimizer = torch.optim.Adam(list(steps.values()), lr=self.lr)

        def biased(layer: QuantLayer, _: nn.Module, __: Inputs, z: Tensor) -> Tensor:
            name = layer.info.name
            return z + per_channel(unit[name] * steps[name], z, layer.info)

        def objective(batch: Tensor, progress: float) -> Tensor:
            optimizer.param_groups[0]["lr"] = cosine(self.lr, progress)
            student = q.model(*(t[batch] for t in images)).log_softmax(classes)
            return F.kl_div(student, teacher[batch], log_target=True, reduction="batchmean")

        with at_layers(q, q.model, biased):
            job.log.curves["bft"] = minimise(
                objective,
                len(teacher),
                [optimizer],
                iterations=iterations,
                batch_size=self.batch_size,
                rng=job.rng,
                report=lambda done, _: job.progress(done, iterations, "bft"),
            )
        for layer in q.layers():
            name = layer.info.name
            layer.bias.data += unit[name] * steps[name].detach()


def _classes(outputs: Tensor) -> int:
    """The dimension of the classes: the second of maps (N, C, H, W), else the last.

    Raises:
        Unsupported: there is no distribution over one class.

    """
    dim = 1 if outputs.dim() == 4 else -1
    if outputs.shape[dim] < 2:
        raise Unsupported(
            "bft compares distributions over classes, and this network gives one number an "
            "example: use ibc"
        )
    return dim


@torch.no_grad()
def _outputs(model: nn.Module, images: Inputs) -> Tensor:
    """Network outputs, (N, ...)."""
    return torch.cat([model(*batch) for batch in batches(images, 50)])
