"""Statistics tuning of AdaQuant: batch norm (eq. 6 to 8) and biases.

Hubara et al., ICML 2021, arXiv 2006.10518.

Quantization changes mean and variance of every channel. Batch-norm tuning puts the folded batch
norm back behind each layer, collects its statistics anew in the quantized network, and folds it
away again, weight scales included: mu and sigma^2 are the new statistics, beta and gamma what full
precision says. Bias tuning distils the network's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme, Unsupported
from quantbench.network.hooks import batches, forward, hooked
from quantbench.optimization.distance import distance
from quantbench.quantization import papers
from quantbench.quantization.grids import QParams
from quantbench.quantization.layers import QuantLayer
from quantbench.system.tensors import Inputs

EPS = 1e-5  # torch's for batch norm


@dataclass(frozen=True)
class BatchNormTuning(Method):
    """Collect the statistics of re-inserted batch norms; no back-propagation.

    They are those of the calibration set in the quantized network.

    A network without batch norm gets the equivalent: beta and gamma are mean and standard deviation
    of each layer's output in the full-precision network over the same calibration set, for all its
    layers.

    Attributes:
        batch_size: examples per pass; each is normalized with its own statistics, as batch norm in
            training does. Passes are in the calibration set's order, and what is left over counts
            (released code: shuffled, the rest dropped).
        momentum: share of each batch in the running statistics, which start at full precision and
            have the unbiased variance, as torch's have; the released code's 0.1 over its 5 batches
            takes the statistics 41 % of the way. ``None`` for plain averages over the calibration
            set, which are ours, and the whole way.

    """

    name: ClassVar[str] = "bn-tuning"
    paper: ClassVar[Paper] = papers.ADAQUANT
    batch_size: int = 200
    momentum: float | None = None

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the method's interface
        """A scale per channel is what the tuned statistics fold into."""
        if scheme.weights.per_channel:
            return None
        return "batch-norm tuning rescales every channel: it needs per-channel weight grids"

    @torch.no_grad()
    def apply(self, job: Job) -> Job:
        """Re-insert, collect, fold."""
        q = job.need()
        norms = {
            name: Norm(beta, std, self.momentum, image=q.layer(name).info.kind == "conv")
            for name, (beta, std) in self.targets(job, q).items()
        }
        with hooked(
            *(q.layer(n).register_forward_hook(partial(_apply, norm)) for n, norm in norms.items())
        ):
            forward(q.model, job.calib, batch_size=self.batch_size)
        for name, norm in norms.items():
            fold(q, name, norm)
        return job

    def targets(self, job: Job, q: Quantized) -> dict[str, tuple[Tensor, Tensor]]:
        """Beta and gamma of every re-inserted batch norm."""
        names = {i.name: i.kind for i in q.infos if i.kind != "embedding"}
        if job.net.batch_norm:
            return {n: (s.mean, s.std) for n, s in job.net.batch_norm.items() if n in names}
        zero, one = (torch.tensor(value, device=job.net.device) for value in (0.0, 1.0))
        seen = {n: Norm(zero, one, None, image=kind == "conv") for n, kind in names.items()}
        hooks = (
            job.net.model.get_submodule(n).register_forward_hook(partial(_watch, s))
            for n, s in seen.items()
        )
        with hooked(*hooks):
            forward(job.net.model, job.calib, batch_size=self.batch_size)
        return {n: (s.mean, s.var.sqrt()) for n, s in seen.items()}


class Norm:
    """A batch norm in training: y' = gamma (y - mu) / sqrt(sigma^2 + eps) + beta (eq. 6)."""

    def __init__(self, beta: Tensor, std: Tensor, momentum: float | None, *, image: bool) -> None:
        self.beta, self.momentum, self.image = beta, momentum, image
        self.gamma = (std.square() + EPS).sqrt()  # so that equal statistics change nothing
        self.mean, self.var, self.count = beta.clone(), std.square(), 0
        self._square = torch.zeros_like(beta)

    def see(self, y: Tensor) -> Tensor:
        """Take a batch into the statistics (eq. 7); returns its normalized form."""
        axis = 1 if self.image else -1
        rows = y.movedim(axis, 0).flatten(1)
        mean, var, n = rows.mean(1), rows.var(1, correction=0), y.shape[0]
        if self.momentum is not None:
            values = rows.shape[1]
            self.mean = self.mean.lerp(mean, self.momentum)
            self.var = self.var.lerp(var * (values / max(1, values - 1)), self.momentum)
        else:
            before = self.mean if self.count else torch.zeros_like(mean)
            self.count += n
            self.mean = before + (mean - before) * (n / self.count)
            self._square = self._square + (var + mean.square() - self._square) * (n / self.count)
            self.var = (self._square - self.mean.square()).clamp(min=0)
        shape = (-1,) + (1,) * (y.dim() - 2) if axis == 1 else (-1,)
        gain = self.gamma / (var + EPS).sqrt()
        return (y - mean.reshape(shape)) * gain.reshape(shape) + self.beta.reshape(shape)


def _apply(norm: Norm, _: nn.Module, __: Any, y: Tensor) -> Tensor:
    return norm.see(y)


def _watch(norm: Norm, _: nn.Module, __: Any, y: Tensor) -> None:
    norm.see(y)


def fold(q: Quantized, name: str, norm: Norm) -> None:
    """Fold a tuned batch norm (eq. 8).

    Codes stay, scale' = scale gamma/sigma, b' = beta + (b - mu) gamma/sigma.
    """
    layer = q.layer(name)
    assert layer.codes is not None
    assert layer.qparams is not None
    qp, gain = layer.qparams, norm.gamma / (norm.var + EPS).sqrt()
    scale = qp.scale * gain.reshape(qp.scale.shape)
    layer.set_codes(layer.codes.float(), QParams(scale, qp.zero, qp.levels))
    layer.bias.data = norm.beta + (layer.bias - norm.mean) * gain


@dataclass(frozen=True)
class BiasTuning(Method):
    """Train the biases alone, so that the output follows the full-precision network's.

    Attributes:
        images: how many of the calibration set batches are drawn from: its first ones, or all.
        batches: how many batches a round has.
        batch_size: examples in each.
        epochs: passes, each of ``repeats`` rounds.
        repeats: rounds in an epoch.
        shuffled: every round has the first batches of a fresh shuffle of the images (released
            code); else the images' first batches are those of all rounds.
        lr: SGD's learning rate; a tenth of it from epoch 10 on, a hundredth from epoch 15.
        loss: ``kl`` for logits (released code's distillation), ``mse`` for networks whose output is
            no logits (ours).
        classifier: train the bias of the last layer too. The released code leaves that of the
            classifier; an output that is no logits has none, and all biases are trained.

    """

    name: ClassVar[str] = "bias-tuning"
    paper: ClassVar[Paper] = papers.ADAQUANT
    images: int = 1000
    batches: int = 4
    batch_size: int = 50
    epochs: int = 10
    repeats: int = 20
    shuffled: bool = True
    lr: float = 0.1
    loss: str = "kl"
    classifier: bool = False

    def __post_init__(self) -> None:
        """Reject an unknown loss, and no images."""
        if self.loss not in ("kl", "mse"):
            raise BadInput(f"loss {self.loss!r}: choose kl or mse")
        if self.images < 1:
            raise BadInput("bias tuning draws its batches from at least one image")

    def apply(self, job: Job) -> Job:
        """Distil."""
        q, curve, done = job.need(), [], 0
        x = tuple(t[: self.images] for t in job.calib)
        target = self.targets(job, x)
        biases = [layer.bias.requires_grad_() for layer in self.trained(q)]
        sgd = torch.optim.SGD(biases, lr=self.lr)
        rounds = self.epochs * self.repeats
        for epoch in range(self.epochs):
            factor = 1.0 if epoch < 10 else 0.1 if epoch < 15 else 0.01
            sgd.param_groups[0]["lr"] = self.lr * factor
            for _ in range(self.repeats):
                for batch in self.drawn(len(x[0]), job.rng):
                    sgd.zero_grad()
                    output = q.model(*(t[batch] for t in x))
                    loss = distance(self.loss)(output, target[batch])
                    loss.backward()  # type: ignore[no-untyped-call]
                    sgd.step()
                done += 1
            curve.append(float(loss.detach()))
            job.progress(done, rounds, f"bias tuning, loss {curve[-1]:.4g}")
        for bias in biases:
            bias.requires_grad = False
            if not torch.isfinite(bias).all():
                raise BadInput(f"bias tuning diverged at a learning rate of {self.lr}: lower it")
        job.log.curves["bias-tuning"] = curve
        return job

    def drawn(self, images: int, rng: torch.Generator) -> Sequence[Tensor]:
        """Image numbers of the batches of one round."""
        order = torch.randperm(images, generator=rng) if self.shuffled else torch.arange(images)
        return order.split(self.batch_size)[: self.batches]  # type: ignore[no-any-return,no-untyped-call]

    @torch.no_grad()
    def targets(self, job: Job, x: Inputs) -> Tensor:
        """The full-precision network's output for every image."""
        return torch.cat([job.net.model(*batch) for batch in batches(x, self.batch_size)])

    def trained(self, q: Quantized) -> list[QuantLayer]:
        """Layers whose biases are trained.

        Raises:
            Unsupported: there is but the classifier.

        """
        layers = list(q.layers())
        if self.loss == "kl" and not self.classifier and layers[-1].info.kind == "linear":
            layers.pop()
        if not layers:
            raise Unsupported(
                "bias tuning leaves the classifier's bias, and there is no other layer: set "
                "classifier"
            )
        return layers
