"""APoT: Additive Powers-of-Two Quantization (Li, Dong, Wang, ICLR 2020), trained with the quantizers in place.

The paper's symbols: W weight, W~ normalized weight, W^ quantized weight, alpha the clipping threshold (learnt, one per
layer for weights and one for inputs), Pi(.) the projection onto the levels Q(1, b). Where text and released code differ
the code is followed, because the released numbers are the code's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from quantbench.api import Job, Method, Paper
from quantbench.errors import BadInput
from quantbench.grids import QParams, code_levels, ste_round
from quantbench.network import Network
from quantbench.quantized import Quantized
from quantbench.scheme import Kind, Scheme
from quantbench.training import Schedule, named_set, train

EPS = 1e-8  # in the normalization: keeps a layer of equal weights finite, and is below float32's resolution elsewhere
LEAST_GAIN = 1e-12  # of a channel whose gamma is 0: a scale has to be positive
LEAST_ALPHA = 1e-3  # a threshold that a large step sends below zero starts again here


def weight_levels(kind: Kind, bits: int) -> tuple[int, ...]:
    """Q(1, b) of weights as codes, symmetric: one bit for the sign, the rest for the magnitude; ternary at 2 bits."""
    if kind != "uniform":
        return code_levels(kind, bits, signed=True)
    largest = 2 ** (bits - 1) - 1
    return tuple(range(-largest, largest + 1))


def normalize(w: Tensor, *, detached: bool) -> Tensor:
    """Weight normalization: W~ = (W - mu) / (sigma + eps) over the whole tensor."""
    mu, sigma = w.mean(), w.std()
    if detached:
        mu, sigma = mu.detach(), sigma.detach()
    return (w - mu) / (sigma + EPS)


def rcf(x: Tensor, alpha: Tensor, levels: tuple[int, ...], *, masked: bool = True) -> Tensor:
    """Reparameterized clipping function: x^ = alpha Pi(clip(x / alpha, -1, 1)).

    d x^ / d alpha = sign(x) where |x| > alpha, else Pi(x / alpha) - x / alpha: the calibrated gradient, which counts
    the projection's error inside the range too. d x^ / d x = 1, and 0 where |x| > alpha if ``masked``.
    """
    projected = QParams(alpha / levels[-1], torch.zeros_like(alpha), levels).fake(x)
    if masked:
        return projected
    bound = alpha.detach()
    outside = x - x.clamp(-bound, bound)
    return projected + (outside - outside.detach())  # adds exactly zero, whose gradient is one outside


class Trained(nn.Module):
    """A layer while it is trained.

    Attributes:
        layer: with the latent weight W.
        alpha_w: the weight's threshold; ``None`` in the first and the last layer, which are merely rounded.
        alpha_a: the input's threshold; ``None`` where the input stays in full precision.
        unit: whether W^ keeps the scale of W~, as in the released checkpoints, instead of going back to that of W.
            In training the batch norm that follows makes both the same, gradients included.
        signed: whether the input has negative values.
        weight_levels: codes of the weight.
        act_levels: codes of the input.

    """

    def __init__(self, layer: nn.Module, alphas: tuple[float | None, float | None], *, unit: bool, signed: bool,
                 method: APoT) -> None:  # fmt: skip
        super().__init__()
        self.layer, self.unit, self.signed, self.method = layer, unit, signed, method
        self.weight_levels: tuple[int, ...] = ()
        self.act_levels: tuple[int, ...] = ()
        alpha_w, alpha_a = alphas
        device = self.latent.device
        self.alpha_w = None if alpha_w is None else nn.Parameter(torch.tensor(alpha_w, device=device))
        self.alpha_a = None if alpha_a is None else nn.Parameter(torch.tensor(alpha_a, device=device))

    @property
    def latent(self) -> Tensor:
        """W, (out, in/groups, ...)."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Layer output with quantized weight and input."""
        with torch.no_grad():
            for alpha in (self.alpha_w, self.alpha_a):
                if alpha is not None:
                    alpha.clamp_(min=LEAST_ALPHA)
        if self.alpha_a is not None:
            x = rcf(x, self.alpha_a, self.act_levels)
        out: Tensor = torch.func.functional_call(self.layer, {"weight": self.quantized()}, (x,))
        return out

    def quantized(self) -> Tensor:
        """W^; in the first and the last layer, W rounded with a straight-through gradient."""
        if self.alpha_w is None:
            return ste_round(self.latent / self.edge_step()) * self.edge_step()
        w, scale = self.normalized()
        return scale * rcf(w, self.alpha_w, self.weight_levels, masked=self.method.masked)

    def normalized(self) -> tuple[Tensor, Tensor]:
        """W~ and what W^ is multiplied by."""
        w = normalize(self.latent, detached=self.method.detached)
        return w, torch.ones((), device=w.device) if self.unit else self.latent.detach().std()

    def edge_step(self) -> Tensor:
        """Step of the first and the last layer: the largest weight is 2^(b-1)-1 steps (released code).

        The most negative weight may be more steps below zero; a channel's span fits b bits all the same.
        """
        w, n = self.latent.detach().flatten(1), len(self.weight_levels) - 1
        span = (w.amax(1) - w.amin(1)).max()
        return torch.maximum(w.max() / (n // 2), span / n).clamp(min=torch.finfo(w.dtype).tiny * 1e8)

    @torch.no_grad()
    def codes(self, sign: Tensor) -> tuple[Tensor, QParams]:
        """Codes and grid of the weight after its channels have been multiplied by ``sign``, (out, 1, ...) of +-1."""
        if self.alpha_w is not None:
            w, scale = self.normalized()
            step, zero = self.alpha_w.detach() / self.weight_levels[-1], torch.zeros_like(sign)
            codes = QParams(step, torch.zeros_like(step), self.weight_levels).quantize(w)
            return codes * sign, QParams(step * scale * torch.ones_like(sign), zero, self.weight_levels)
        k, levels = (self.latent / self.edge_step()).round() * sign, self.weight_levels
        each = k.flatten(1)
        shift = (-each.amin(1) - (len(levels) // 2)).clamp(min=0) + (len(levels) // 2 - 1 - each.amax(1)).clamp(max=0)
        zero = shift.reshape(sign.shape) + len(levels) // 2
        return (k + zero).clamp(levels[0], levels[-1]), QParams(self.edge_step() * torch.ones_like(sign), zero, levels)


@dataclass(frozen=True)
class APoT(Method):
    """Fine-tune with weights and activations on additive powers of two; kind and bits are the scheme's.

    The scheme's kind may be ``apot``, ``pot`` or ``uniform``, so that all three are trained alike. Under placement
    ``integer`` the learnt input thresholds only serve training: every tensor's range comes from the calibration set.

    Attributes:
        epochs: of each stage; 0 takes the network as it is, with the thresholds that its checkpoint holds.
        batch_size: images a step.
        lr: of weights and batch norm (SGD, momentum 0.9), a tenth after 1/2 and again after 3/4 of the steps.
        weight_decay: at 3 bits and more.
        weight_decay_2bit: at 2 bits.
        lr_alpha_w: of the weights' thresholds.
        lr_alpha_a: of the inputs' thresholds.
        decay_alpha: weight decay of the thresholds.
        alpha_w: the weights' first threshold, in standard deviations.
        alpha_a: the inputs' first threshold; 0 finds it with the scheme's range estimator on the calibration set.
        progressive: train at 4 and 3 bits first, where the scheme has fewer.
        detached: mu and sigma are constants to the gradient (released CIFAR code), or are differentiated (ImageNet's).
        masked: no gradient to weights beyond alpha; the released code lets it through.
        train_data: labelled training images.
        examples: train on a class-balanced draw of so many; 0 for all.
        watch: image set measured after every epoch; the last epoch is the result, the best one is only reported.
        bf16: bfloat16 where autocast allows it.

    """

    name: ClassVar[str] = "apot"
    paper: ClassVar[Paper] = Paper(
        "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural Networks",
        "1909.13144",
        2020,
    )

    epochs: int = 300
    batch_size: int = 128
    lr: float = 0.04
    weight_decay: float = 1e-4
    weight_decay_2bit: float = 3e-5
    lr_alpha_w: float = 0.02
    lr_alpha_a: float = 0.1
    decay_alpha: float = 1e-4
    alpha_w: float = 3.0
    alpha_a: float = 8.0
    progressive: bool = True
    detached: bool = True
    masked: bool = False
    train_data: str = "cifar10/train"
    examples: int = 0
    watch: str = ""
    bf16: bool = False

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the interface
        """Training needs batch norm as it was."""
        return None if net.unfolded is not None else f"{net.name} does not know its batch norm, which training needs"

    def apply(self, job: Job) -> Job:
        """Quantizers in, train stage by stage, integers out."""
        model = self.prepare(job)
        bits = job.scheme.weights.bits
        stages = [b for b in (4, 3) if b > bits and self.progressive and self.epochs] + [bits]
        for stage in stages:
            self.set_levels(model, job, stage)
            if self.epochs:
                self.stage(model, job, stage)
        return job.done(integers(model.eval(), job))

    def prepare(self, job: Job) -> nn.Module:
        """The unfolded network with its layers in their trained form."""
        net, scheme = job.net, job.scheme
        ranges = Quantized(net, replace(scheme, placement="inputs"))
        ranges.calibrate_acts(job.calib)
        model = copy.deepcopy(net.unfolded)
        assert model is not None
        with torch.no_grad():
            if not torch.allclose(model(*net.sample), net.model(*net.sample), rtol=1e-3, atol=1e-2):
                raise BadInput(f"{net.name} was changed after its batch norm was folded: put apot before such steps")
        for info in ranges.infos:
            layer, act = model.get_submodule(info.name), ranges.layer(info.name).act
            edge = info.name in net.edges and scheme.first_last_bits is not None
            own_w = getattr(getattr(layer, "weight_quant", None), "wgt_alpha", None)
            own_a = getattr(layer, "act_alpha", None)
            alpha_w = None if edge else self.alpha_w if own_w is None else float(own_w)
            alpha_a = None
            if act is not None and not edge:
                found = self.alpha_a or float(act.scale) * max(map(abs, act.levels))
                alpha_a = found if own_a is None else float(own_a)
            signed = act is not None and bool(act.levels[0] < 0 or act.zero > 0)
            trained = Trained(layer, (alpha_w, alpha_a), unit=own_w is not None, signed=signed, method=self)
            _put(model, info.name, trained)
        return model.requires_grad_()

    def set_levels(self, model: nn.Module, job: Job, stage: int) -> None:
        """Levels of one stage; a layer with an override has its own from the start."""
        for name, layer in _trained(model).items():
            grid, acts = job.scheme.weight_grid(name, edge=name in job.net.edges), job.scheme.act_grid(name)
            if layer.alpha_w is None:
                layer.weight_levels = tuple(range(2**grid.bits))
            else:
                layer.weight_levels = weight_levels(grid.kind, max(stage, grid.bits))
            if acts is not None:
                layer.act_levels = code_levels(acts.kind, max(stage, acts.bits), signed=layer.signed)

    def stage(self, model: nn.Module, job: Job, stage: int) -> None:
        """SGD, with learning rates of their own for the thresholds; one stage of progressive initialisation."""
        layers = list(_trained(model).values())
        alphas_w = [layer.alpha_w for layer in layers if layer.alpha_w is not None]
        alphas_a = [layer.alpha_a for layer in layers if layer.alpha_a is not None]
        thresholds = {id(a) for a in (*alphas_w, *alphas_a)}
        decay = self.weight_decay_2bit if stage == 2 else self.weight_decay
        others = [p for p in model.parameters() if id(p) not in thresholds]
        groups = [
            {"params": others, "lr": self.lr, "weight_decay": decay},
            {"params": alphas_w, "lr": self.lr_alpha_w, "weight_decay": self.decay_alpha},
            {"params": alphas_a, "lr": self.lr_alpha_a, "weight_decay": self.decay_alpha},
        ]
        data = named_set(job.net.name, self.train_data, self.examples)
        watch = named_set(job.net.name, self.watch, 0) if self.watch else None
        history = train(
            model,
            data,
            [g for g in groups if g["params"]],
            Schedule(self.epochs, self.batch_size, bf16=self.bf16),
            job.rng,
            watch=watch,
            progress=lambda done, total, what: job.progress(done, total, f"apot at {stage} bits, {what}"),
            saved=None if job.scratch is None else job.scratch / f"{stage}bits.pt",
        )
        job.log.curves[f"loss/{stage}bits"] = history.loss
        if watch is not None:
            job.log.curves[f"top1/{stage}bits"] = history.top1
            job.log.numbers |= {f"top1/{stage}bits/last": history.top1[-1], f"top1/{stage}bits/best": max(history.top1)}


def integers(model: nn.Module, job: Job) -> Quantized:
    """Codes and per-channel scales: folding batch norm multiplies W^ = alpha Pi(W~ / alpha) by gamma / sigma."""
    q, layers = Quantized(job.net, job.scheme), _trained(model)
    with torch.no_grad():
        for name, trained in layers.items():
            _put(model, name, trained.layer)
    folded = Network.of(model, job.net.sample, name=job.net.name)
    own = {k: v for k, v in folded.model.state_dict().items() if k.rpartition(".")[0] not in layers}
    q.model.load_state_dict(own, strict=False)
    for name, trained in layers.items():
        layer, stats, w = q.layer(name), folded.batch_norm.get(name), trained.latent
        gain = torch.ones(len(w), device=w.device) if stats is None else stats.gain
        gain = gain.reshape(-1, *(1,) * (w.dim() - 1))
        codes, qp = trained.codes(torch.where(gain < 0, -1.0, 1.0))
        layer.set_codes(codes, QParams(qp.scale * gain.abs().clamp(min=LEAST_GAIN), qp.zero, qp.levels))
        bias = folded.model.get_submodule(name).bias
        if isinstance(bias, Tensor):
            layer.bias.data = bias.detach().clone()
        if layer.act is not None and trained.alpha_a is not None:
            step = trained.alpha_a.detach() / trained.act_levels[-1]
            layer.act.set(QParams(step, torch.zeros_like(step), trained.act_levels))
    if job.scheme.placement == "integer":
        q.calibrate_acts(job.calib)
    return q


def _trained(model: nn.Module) -> dict[str, Trained]:
    """Layers in their trained form by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Trained)}


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a module."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
