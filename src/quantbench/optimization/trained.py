"""A network whose layers are trained in their clipped form: how they get in, and the integers that come out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantbench.network.network import Network
from quantbench.optimization.clipping import Clipped
from quantbench.quantization.grids import QParams
from quantbench.quantization.method import Job
from quantbench.quantization.quantized import Quantized

LEAST_GAIN = 1e-12  # of a channel whose gamma is 0: a scale has to be positive


def clipped(model: nn.Module) -> dict[str, Clipped]:
    """Layers in their trained form by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Clipped)}


def integers(model: nn.Module, job: Job) -> Quantized:
    """Codes and per-channel scales: folding batch norm multiplies W^ = alpha Pi(W~ / alpha) by gamma / sigma.

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
        layer.set_codes(
            codes, QParams(qp.scale * gain.abs().clamp(min=LEAST_GAIN), qp.zero, qp.levels)
        )
        bias = folded.model.get_submodule(name).bias
        if isinstance(bias, Tensor):
            layer.bias.data = bias.detach().clone()
        if layer.act is not None and trained.alpha_a is not None:
            step = trained.alpha_a.detach() / trained.act_levels[-1]
            layer.act.set(QParams(step, torch.zeros_like(step), trained.act_levels))
    if job.scheme.placement == "integer":
        q.calibrate_acts(job.calib)
    return q
