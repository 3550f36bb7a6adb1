"""APoT: Additive Powers-of-Two Quantization (Li, Dong, Wang, ICLR 2020).

A network is trained with the quantizers in place. The paper's parts, and where they are:

    levels Q(1, b), sums of powers of two        quantization.levels
    W~ = (W - mu) / (sigma + eps)                optimization.clipping.normalize
    W^ = alpha Pi(clip(W~ / alpha, -1, 1))       optimization.clipping.rcf
    the calibrated gradient of alpha             optimization.clipping.rcf
    first and last layer at 8 bits               optimization.clipped_layers.Clipped
    SGD, thresholds with a rate of their own     here
    5 or 4 to 3 to 2 bits                        here

The three contributions can each be left out: levels by the scheme's kind, ``reparameterized`` and
``normalized`` by the fields of these names. Lloyd's levels, which the paper compares with, are the
kind ``lloyd``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme, lower
from quantbench.integer.shift_add import shift_and_add
from quantbench.optimization.clipped_layers import Clipped, clipped, integers
from quantbench.optimization.clipping import weight_levels
from quantbench.optimization.finished_steps import folder
from quantbench.optimization.training import Schedule, train
from quantbench.quantization import papers
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.levels import code_levels
from quantbench.tasks.images import labelled, training


@dataclass(frozen=True)
class APoT(Method):
    """Fine-tune on additive powers of two; kind and bits are the scheme's.

    The scheme's kind may be ``apot``, ``pot``, ``uniform`` or ``lloyd``, so that all are trained
    alike.
    Under placement ``integer`` the learnt input thresholds only serve training: every tensor's
    range comes from the calibration set.

    Attributes:
        epochs: of each stage; 0 takes the network as it is, with the thresholds that its checkpoint
            holds.
        batch_size: images a step.
        lr: of weights and batch norm (SGD, momentum 0.9).
        milestones: shares of the steps after which all rates fall to a tenth; epochs 150 and 225 on
            CIFAR-10.
        weight_decay: at 3 bits and more.
        weight_decay_2bit: at 2 bits.
        lr_alpha_w: of the weights' thresholds.
        lr_alpha_a: of the inputs' thresholds.
        decay_alpha: weight decay of the thresholds.
        alpha_w: the weights' first threshold, in standard deviations of each layer's.
        alpha_a: the inputs' first threshold; 0 finds it with the scheme's range estimator on the
            calibration set. The released CIFAR-10 code has 8, ImageNet's 6.
        progressive: train at more bits first, from ``first_bits`` downwards to the scheme's.
        first_bits: where that begins, from the full-precision network: 4 on CIFAR-10, 5 on ImageNet
            (the repository's scripts and README).
        detached: mu and sigma are constants to the gradient (released CIFAR code), or are
            differentiated (ImageNet's).
        masked: no gradient to weights beyond alpha; the released code lets it through.
        normalized: weight normalization; without, W itself is clipped, at a threshold in its own
            unit, whose rate stays ``lr_alpha_w``. The authors report that thresholds explode then
            (yhhhli/APoT_Quantization, issue 4).
        reparameterized: the thresholds' gradient counts the projection's error inside the range
            too; without, only what is clipped moves them, as in PACT.
        train_data: labelled training images: an image set, whose images are moved by up to 4 pixels
            and mirrored, or ``imagenet/train-whole``, all of ImageNet's, of which each step takes
            random crops (both as in the released code).
        examples: train on a class-balanced draw of so many; 0 for all.
        watch: image set measured after every epoch; the last epoch is the result, the best one is
            only reported. The released numbers are those of the best epoch on the test set.
        bf16: bfloat16 where autocast allows it.

    """

    name: ClassVar[str] = "apot"
    paper: ClassVar[Paper] = papers.APOT
    quick: ClassVar[Mapping[str, object]] = {"epochs": 0}  # training takes labelled images

    epochs: int = 300
    batch_size: int = 128
    lr: float = 0.04
    milestones: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 1e-4
    weight_decay_2bit: float = 3e-5
    lr_alpha_w: float = 0.02
    lr_alpha_a: float = 0.1
    decay_alpha: float = 1e-4
    alpha_w: float = 3.0
    alpha_a: float = 8.0
    progressive: bool = True
    first_bits: int = 4
    detached: bool = True
    masked: bool = False
    normalized: bool = True
    reparameterized: bool = True
    train_data: str = "cifar10/train"
    examples: int = 0
    watch: str = ""
    bf16: bool = False

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the interface
        """Training needs batch norm as it was, and layers that multiply their inputs."""
        if net.unfolded is None:
            return f"{net.name} does not know its batch norm, which training needs"
        rows = [layer.name for layer in net.layers if layer.kind == "embedding"]
        if rows:
            return f"apot trains convolutions and linear layers, and {rows[0]} is an embedding"
        return None

    def apply(self, job: Job) -> Job:
        """Quantizers in, train stage by stage, integers out."""
        model, kept = self.prepare(job), folder(job, self)
        bits = job.scheme.weights.bits
        more = range(self.first_bits, bits, -1) if self.progressive and self.epochs else ()
        stages = [*more, bits]
        for number, stage in enumerate(stages):
            self.set_levels(model, job, stage)
            if self.epochs:
                self.stage(model, job, stage, kept, (number, len(stages)))
        q = integers(model.eval(), job)
        if job.scheme.placement == "integer":
            edges = q.net.edges if q.scheme.first_last_bits else frozenset[str]()
            names = [info.name for info in q.infos if info.name not in edges]
            grids = {name: q.weight_grid(name) for name in names}
            job.log.numbers |= shift_and_add(lower(q), grids)
        return job.done(q)

    def prepare(self, job: Job) -> nn.Module:
        """The unfolded network with its layers in their trained form."""
        net, scheme = job.net, job.scheme
        ranges = Quantized(net, replace(scheme, placement="inputs"))
        ranges.calibrate_acts(job.calib)
        model = copy.deepcopy(net.unfolded)
        if model is None or not _agrees(model, net):
            raise BadInput(
                f"{net.name} was changed after its batch norm was folded: put apot before such "
                "steps"
            )
        for info in ranges.infos:
            edge = info.name in net.edges and scheme.first_last_bits is not None
            layer, act = model.get_submodule(info.name), ranges.layer(info.name).act
            model.set_submodule(info.name, self.trained_form(layer, act, edge=edge))
        return model.requires_grad_()

    def trained_form(self, layer: nn.Module, act: ActQuant | None, *, edge: bool) -> Clipped:
        """A layer in its trained form.

        Args:
            layer: of the unfolded network; a checkpoint's has thresholds of its own.
            act: what the scheme's estimator found for the layer's input.
            edge: whether it is the first or the last layer, whose weights are merely rounded.

        """
        own_w = getattr(getattr(layer, "weight_quant", None), "wgt_alpha", None)
        own_a = getattr(layer, "act_alpha", None)
        if own_w is not None and not self.normalized:
            raise BadInput(
                "the checkpoint's thresholds are those of normalized weights: normalized = false "
                "begins with a full-precision network"
            )
        alpha_w = None if edge else self.first_alpha(layer) if own_w is None else float(own_w)
        alpha_a = None
        if act is not None and not edge:
            found = self.alpha_a or float(act.scale) * max(map(abs, act.levels))
            alpha_a = found if own_a is None else float(own_a)
        return Clipped(
            layer,
            alpha_w,
            alpha_a,
            unit=own_w is not None,
            signed=act is not None and bool(act.levels[0] < 0 or act.zero > 0),
            detached=self.detached,
            masked=self.masked,
            normalized=self.normalized,
            calibrated=self.reparameterized,
        )

    def first_alpha(self, layer: nn.Module) -> float:
        """The weights' first threshold, in the unit of what is clipped."""
        weight = layer.weight
        assert isinstance(weight, Tensor)
        return self.alpha_w if self.normalized else self.alpha_w * float(weight.detach().std())

    def set_levels(self, model: nn.Module, job: Job, stage: int) -> None:
        """Levels of one stage; a layer with an override has its own from the start."""
        for name, layer in clipped(model).items():
            grid = job.scheme.weight_grid(name, edge=name in job.net.edges)
            acts = job.scheme.act_grid(name)
            if layer.alpha_w is None:
                layer.weight_levels = tuple(range(2**grid.bits))
            else:
                layer.weight_levels = weight_levels(grid.kind, max(stage, grid.bits))
            if acts is not None:
                bits = max(stage, acts.bits)
                layer.act_levels = code_levels(acts.kind, bits, signed=layer.signed)

    def stage(
        self, model: nn.Module, job: Job, stage: int, kept: Path | None, which: tuple[int, int]
    ) -> None:
        """One stage of progressive initialisation: SGD, thresholds with rates of their own.

        Args:
            model: in its trained form; changed.
            job: gives the generator, and is told.
            stage: its bits.
            kept: folder of what an interrupted training goes on from.
            which: the stage's number, from 0, and how many there are.

        """
        data = training(job.net.name, self.train_data, self.examples)
        watch = labelled(job.net.name, self.watch).top1 if self.watch else None

        def progress(done: int, total: int, what: str) -> None:
            number, of = which
            job.progress(number * total + done, of * total, f"apot at {stage} bits, {what}")

        history = train(
            model,
            data,
            self.groups(model, stage),
            Schedule(self.epochs, self.batch_size, self.milestones, bf16=self.bf16),
            job.rng,
            watch=watch,
            progress=progress,
            saved=kept and kept / f"{stage}bits.safetensors",
        )
        job.log.curves[f"loss/{stage}bits"] = history.loss
        if watch is not None:
            job.log.curves[f"top1/{stage}bits"] = history.top1
            job.log.numbers |= {
                f"top1/{stage}bits/last": history.top1[-1],
                f"top1/{stage}bits/best": max(history.top1),
            }

    def groups(self, model: nn.Module, stage: int) -> list[dict[str, Any]]:
        """Parameters with a learning rate and a decay each; thresholds have their own."""
        layers = list(clipped(model).values())
        alphas_w = [layer.alpha_w for layer in layers if layer.alpha_w is not None]
        alphas_a = [layer.alpha_a for layer in layers if layer.alpha_a is not None]
        thresholds = {id(a) for a in (*alphas_w, *alphas_a)}
        decay = self.weight_decay_2bit if stage == 2 else self.weight_decay
        others = [p for p in model.parameters() if id(p) not in thresholds]
        groups: list[dict[str, Any]] = [
            {"params": others, "lr": self.lr, "weight_decay": decay},
            {"params": alphas_w, "lr": self.lr_alpha_w, "weight_decay": self.decay_alpha},
            {"params": alphas_a, "lr": self.lr_alpha_a, "weight_decay": self.decay_alpha},
        ]
        return [group for group in groups if group["params"]]


@torch.no_grad()
def _agrees(unfolded: nn.Module, net: Network) -> bool:
    """Whether a network still computes what it did before its batch norm was folded."""
    own, folded = unfolded(*net.sample), net.model(*net.sample)
    return torch.allclose(own, folded, rtol=1e-3, atol=1e-2)


# 781 steps, minutes a network: the paper's rate of 0.04 undoes the pretrained weights in so few.
# All rates keep the paper's ratios; with the paper's own ones for thresholds that start at a
# layer's range, two bits diverge.
SHORT = APoT(
    epochs=1,
    batch_size=64,
    lr=0.003,
    lr_alpha_w=0.0015,
    lr_alpha_a=0.0075,
    alpha_a=0.0,
    progressive=False,
)
