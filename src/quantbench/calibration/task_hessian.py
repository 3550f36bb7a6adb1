"""Second derivatives of the task loss by one layer's weights (Nagel et al., ICML 2020, eq. 13)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.calibration.columns import columns
from quantbench.calibration.walk import Progressive
from quantbench.errors import Unsupported
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel


def task_hessian(
    passes: Progressive, layer: QuantLayer, draws: int, rng: torch.Generator
) -> Tensor:
    """Second derivative of the cross-entropy by one layer's weights, mean over examples (eq. 13).

    Logits are piecewise linear in one layer's weights when activation functions are, so this is
    exact almost everywhere for ReLU networks: H = E sum_c p_c g_c g_c^T with g_c the gradient of
    log p_c. It needs no labels.

    Returns:
        (weights, weights).

    Raises:
        Unsupported: a layer from which the output does not follow.

    """
    w = layer.original
    h = torch.zeros(w.numel(), w.numel(), dtype=torch.float64)
    x = passes.inputs_of(layer.info.name)[0]
    for part in passes.batches():
        z, logits = passes.split(part, layer.info.name)
        if not logits.requires_grad:
            raise Unsupported(
                f"layer {layer.info.name!r}: the network's output does not follow from what it "
                "gives, so no gradient says what its weights are for"
            )
        log_p = F.log_softmax(logits, 1)
        a = columns(layer, x.take(part))
        for label, weight in _labels(log_p.detach().exp(), draws, rng):
            (g,) = torch.autograd.grad(log_p.gather(1, label).sum(), z, retain_graph=True)
            # a row for each output channel, with all of its positions
            rows = g.flatten(2) if layer.geometry else g.reshape(g.shape[0], -1, g.shape[-1]).mT
            rows = rows.reshape(z.shape[0], layer.groups, -1, rows.shape[2])
            grads = torch.einsum("ngop,ngkp->ngok", rows, a)
            flat = grads.flatten(1) * weight.sqrt()
            h += (flat.mT @ flat).cpu()
    h /= len(passes)
    parallel.average([h])
    return h.float().to(w.device)


def _labels(p: Tensor, draws: int, rng: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """(n, 1) labels with weights: every class by its probability, or ``draws`` drawn classes."""
    if p.shape[1] <= draws:
        every = range(p.shape[1])
        return [(torch.full((p.shape[0], 1), c, device=p.device), p[:, c, None]) for c in every]
    drawn = torch.multinomial(p.cpu(), draws, replacement=True, generator=rng).to(p.device)
    return [(drawn[:, d, None], torch.full_like(p[:, :1], 1 / draws)) for d in range(draws)]
