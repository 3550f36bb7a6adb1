"""Layers while they are trained through their quantizers, and the integers that come out.

The quantizers, and the symbols, are those of ``clipping``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantbench.network.network import Network
from quantbench.optimization.clipping import normalize, rcf
from quantbench.quantization.grids import SMALLEST, QParams
from quantbench.quantization.method import Job
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.straight_through import ste_round

LEAST_ALPHA = 1e-3  # a threshold that a large step sends below zero starts again here

LEAST_GAIN = 1e-12  # of a channel whose gamma is 0: a scale has to be positive


class Clipped(nn.Module):
    """A layer while it is trained.

    Attributes:
        layer: with the latent weight W.
        alpha_w: the weight's threshold; ``None`` in the first and the last layer, which are merely
            rounded.
        alpha_a: the input's threshold; ``None`` where the input stays in full precision.
        unit: whether W^ keeps the scale of W~, as in the released checkpoints, instead of going
            back to that of W. In training the batch norm that follows makes both the same,
            gradients included.
        signed: whether the input has negative values.
        detached: as in :func:`normalize`.
        masked: as in :func:`rcf`, for the weight.
        normalized: whether W^ is that of the normalized weight W~, or of W itself, in whose unit
            ``alpha_w`` then is.
        calibrated: as in :func:`rcf`, for weight and input.
        weight_levels: codes of the weight.
        act_levels: codes of the input.

    """

    def __init__(
        self,
        layer: nn.Module,
        alpha_w: float | None,
        alpha_a: float | None,
        *,
        unit: bool,
        signed: bool,
        detached: bool,
        masked: bool,
        normalized: bool = True,
        calibrated: bool = True,
    ) -> None:
        super().__init__()
        self.layer, self.unit, self.signed = layer, unit, signed
        self.detached, self.masked = detached, masked
        self.normal, self.calibrated = normalized, calibrated
        self.weight_levels: tuple[int, ...] = ()
        self.act_levels: tuple[int, ...] = ()
        self.alpha_w = self._threshold(alpha_w)
        self.alpha_a = self._threshold(alpha_a)

    def _threshold(self, alpha: float | None) -> nn.Parameter | None:
        """A threshold that can be trained."""
        if alpha is None:
            return None
        return nn.Parameter(torch.tensor(alpha, device=self.latent.device))

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
            x = rcf(x, self.alpha_a, self.act_levels, calibrated=self.calibrated)
        out: Tensor = torch.func.functional_call(self.layer, {"weight": self.quantized()}, (x,))
        return out

    def quantized(self) -> Tensor:
        """W^; in the first and the last layer, W rounded with a straight-through gradient."""
        if self.alpha_w is None:
            return ste_round(self.latent / self.edge_step()) * self.edge_step()
        w, scale = self.normalized()
        how = {"masked": self.masked, "calibrated": self.calibrated}
        return scale * rcf(w, self.alpha_w, self.weight_levels, **how)

    def normalized(self) -> tuple[Tensor, Tensor]:
        """W~, or W, and what W^ is multiplied by."""
        if not self.normal:
            return self.latent, torch.ones((), device=self.latent.device)
        w = normalize(self.latent, detached=self.detached)
        return w, torch.ones((), device=w.device) if self.unit else self.latent.detach().std()

    def edge_step(self) -> Tensor:
        """Step of the first and the last layer (released code).

        It makes the largest weight 2^(b-1)-1 steps.

        The most negative weight may be more steps below zero; a channel's span fits b bits all the
        same.
        """
        w, n = self.latent.detach().flatten(1), len(self.weight_levels) - 1
        span = (w.amax(1) - w.amin(1)).max()
        smallest = SMALLEST
        return torch.maximum(w.max() / (n // 2), span / n).clamp(min=smallest)

    @torch.no_grad()
    def codes(self, sign: Tensor) -> tuple[Tensor, QParams]:
        """Codes and grid of the weight, its channels times ``sign``, (out, 1, ...) of +-1."""
        levels = self.weight_levels
        if self.alpha_w is not None:
            w, scale = self.normalized()
            step = self.alpha_w.detach() / levels[-1]
            codes = QParams(step, torch.zeros_like(step), levels).quantize(w)
            each_step = step * scale * torch.ones_like(sign)
            return codes * sign, QParams(each_step, torch.zeros_like(sign), levels)
        k = (self.latent / self.edge_step()).round() * sign
        each, half = k.flatten(1), len(levels) // 2
        shift = (-each.amin(1) - half).clamp(min=0) + (half - 1 - each.amax(1)).clamp(max=0)
        zero = shift.reshape(sign.shape) + half
        qp = QParams(self.edge_step() * torch.ones_like(sign), zero, levels)
        return (k + zero).clamp(levels[0], levels[-1]), qp


def clipped(model: nn.Module) -> dict[str, Clipped]:
    """Layers in their trained form by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Clipped)}


def integers(model: nn.Module, job: Job) -> Quantized:
    """Codes and per-channel scales of a trained network.

    Folding batch norm multiplies W^ = alpha Pi(W~ / alpha) by gamma / sigma.

    Args:
        model: in evaluation mode, with batch norm as it was trained; loses its clipped layers.
        job: whose network the model is, and whose scheme its levels are.

    """
    q, layers = Quantized(job.net, job.scheme), clipped(model)
    with torch.no_grad():
        for name, trained in layers.items():
            model.set_submodule(name, trained.layer)
    folded = Network.of(model, job.net.sample, name=job.net.name)
    own = {k: v for k, v in folded.model.state_dict().items() if k.rpartition(".")[0] not in layers}
    q.model.load_state_dict(own, strict=False)
    for name, trained in layers.items():
        layer, stats, w = q.layer(name), folded.batch_norm.get(name), trained.latent
        gain = torch.ones(len(w), device=w.device) if stats is None else stats.gain
        gain = gain.reshape(-1, *(1,) * (w.dim() - 1))
        codes, qp = trained.codes(torch.where(gain < 0, -1.0, 1.0))
        scale = qp.scale * gain.abs().clamp(min=LEAST_GAIN)
        layer.set_codes(codes, QParams(scale, qp.zero, qp.levels))
        bias = folded.model.get_submodule(name).bias
        if isinstance(bias, Tensor):
            layer.bias.data = bias.detach().clone()
        if layer.act is not None and trained.alpha_a is not None:
            step = trained.alpha_a.detach() / trained.act_levels[-1]
            layer.act.set(QParams(step, torch.zeros_like(step), trained.act_levels))
    if job.scheme.placement == "integer":
        q.calibrate_acts(job.calib)
    return q
