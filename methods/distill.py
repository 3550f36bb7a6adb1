"""Calibration data distilled from batch-norm statistics, for data-free BRECQ.

Images start as noise and are optimised until every batch norm of the full-precision network sees
the mean mu and the standard deviation sigma that it recorded in training: min over x of the sum
over layers of ||mu(x) - mu||^2 + ||sigma(x) - sigma||^2 (ZeroQ, Cai et al., CVPR 2020, arXiv
2001.00281, eq. 3). BRECQ takes the idea from there and from Haroush et al. (CVPR 2020); its
released code has no part of it, so the settings are those of ZeroQ's code
(amirgholami/ZeroQ, ``classification/distill_data.py``) unless a field says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench import BadInput, Job, Method, Network, Paper, Scheme
from quantbench.optimization.descent import cosine
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.quantization import papers

EVERY = 50  # points of a curve

SMALL = 1e-6  # added to a variance, so that a constant channel has a gradient, too


@dataclass(frozen=True)
class Distill(Method):
    """Replace the calibration set by distilled images.

    What follows then uses them, as in ``distill+brecq``.

    Of the calibration set that is given, only the number of images counts.

    Attributes:
        match: what meets the statistics: ``batch``, moments over all the images of a batch, as
            batch norm took them, or ``image``, those of each image on its own, and the input's to
            mean 0 and deviation 1, as ZeroQ's code has it: sums over channels and layers, unbiased
            deviations.
        images: how many to distil; 0 for as many as the calibration set has.
        iterations: optimisation steps of each batch.
        lr: Adam's learning rate, annealed to 0 by a cosine; ZeroQ starts at 0.5 and waits for
            plateaus.
        bound: largest absolute value of a pixel as the network gets it; noise has outliers that no
            image has, and ranges of activations would hold them. ImageNet's normalization gives
            -2.1 to 2.6; 0 for none, as in ZeroQ.
        batch_size: images that are optimised together. They start as normal noise; ZeroQ's code has
            uniform noise for it.

    """

    name: ClassVar[str] = "distill"
    paper: ClassVar[Paper] = papers.BRECQ
    match: str = "batch"
    images: int = 0
    iterations: int = 500
    lr: float = 0.1
    bound: float = 2.5
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Reject an unknown way to match."""
        if self.match not in MISMATCHES:
            raise BadInput(f"distill: match {self.match!r}; choose {' or '.join(MISMATCHES)}")

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the base's signature
        """Statistics must exist, and noise be a meaningful start."""
        if net.unfolded is None or not norms(net.unfolded):
            why = "batch norm with recorded statistics, which distilled images are made to match"
            return f"{net.name} has no {why}"
        if len(net.sample) != 1 or net.sample[0].dim() != 4:
            return f"{net.name} does not take images: distilled data starts as an image of noise"
        return None

    def apply(self, job: Job) -> Job:
        """Distil batch after batch."""
        n = self.images or job.calib[0].shape[0]
        sizes = [min(self.batch_size, n - start) for start in range(0, n, self.batch_size)]
        finished, parts = FinishedSteps(job, self), []
        for i, size in enumerate(sizes):
            done = finished.load(f"images-{i}")
            if done is None:
                done = {"images": self.batch(job, i, size, len(sizes))}
                finished.save(f"images-{i}", done)
            parts.append(done["images"].to(job.net.device))
        return replace(job, calib=(torch.cat(parts),))

    def batch(self, job: Job, number: int, size: int, batches: int) -> Tensor:
        """One batch of images, (size, C, H, W)."""
        model, shape = job.net.unfolded, job.net.sample[0].shape[1:]
        if model is None:
            raise BadInput(
                f"{job.net.name} was changed after its batch norm was folded: put distill before "
                "such steps"
            )
        x = torch.randn(size, *shape, generator=job.rng).to(job.net.device).requires_grad_()
        mismatch, optimizer = MISMATCHES[self.match], torch.optim.Adam([x], lr=self.lr)
        curve: list[float] = []
        for step in range(self.iterations):
            optimizer.param_groups[0]["lr"] = cosine(self.lr, step / self.iterations)
            optimizer.zero_grad()
            loss = mismatch(model, x)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if self.bound:
                x.data.clamp_(-self.bound, self.bound)
            if step % max(1, self.iterations // EVERY) == 0:
                curve.append(float(loss.detach()))
                done, total = number * self.iterations + step, batches * self.iterations
                job.progress(done, total, f"distil, loss {curve[-1]:.4g}")
        with torch.no_grad():
            curve.append(float(mismatch(model, x)))
        job.log.curves[f"distill/{number}"] = curve
        job.log.numbers |= {
            f"distill/first/{number}": curve[0],
            f"distill/last/{number}": curve[-1],
        }
        return x.detach()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Batch norms that recorded statistics."""
    return [
        m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None
    ]


def mismatch(model: nn.Module, x: Tensor) -> Tensor:
    """Squared distance of channels' mean and deviation, mean over batch norms (ZeroQ, eq. 3)."""
    losses = []
    with _watched(model, _moments) as seen:
        model(x)
    for norm, (mean, std) in seen:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        sigma = (norm.running_var + norm.eps).sqrt()
        losses.append(F.mse_loss(mean, norm.running_mean) + F.mse_loss(std, sigma))
    return torch.stack(losses).mean()


def mismatch_of_images(model: nn.Module, x: Tensor) -> Tensor:
    """Squared distance of each image's channels, mean over images, the input's among them.

    ZeroQ's ``own_loss``: ||mu(x_i) - mu||^2 + ||sigma(x_i) - sigma||^2, summed over layers.
    """
    with _watched(model, _moments_of_images) as seen:
        model(x)
    mean, std = _moments_of_images(x)
    total = (mean.square() + (std - 1).square()).sum()
    for norm, (mean, std) in seen:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        sigma = (norm.running_var + SMALL).sqrt()
        total = total + ((mean - norm.running_mean).square() + (std - sigma).square()).sum()
    return total / len(x)


MISMATCHES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "batch": mismatch,
    "image": mismatch_of_images,
}

Moments = tuple[Tensor, Tensor]


@contextmanager
def _watched(
    model: nn.Module, moments: Callable[[Tensor], Moments]
) -> Iterator[list[tuple[nn.BatchNorm2d, Moments]]]:
    """Moments of what every batch norm gets inside the block."""
    seen: list[tuple[nn.BatchNorm2d, Moments]] = []

    def look(norm: Any, args: tuple[Tensor, ...]) -> None:
        seen.append((norm, moments(args[0])))

    handles = [norm.register_forward_pre_hook(look) for norm in norms(model)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel, over images and positions."""
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, (var + SMALL).sqrt()


def _moments_of_images(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) mean and standard deviation of every channel of every image, over positions."""
    var, mean = torch.var_mean(x, (2, 3), correction=1)
    return mean, (var + SMALL).sqrt()
