"""Second moments of a layer's input: E[x x^T] over the columns that its weights meet."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.capture import capture_input
from quantbench.grids import QParams
from quantbench.network import Inputs
from quantbench.quantized import Quantized, QuantLayer
from quantbench.ranges import estimate


def columns(layer: QuantLayer, x: Tensor) -> Tensor:
    """Columns that one row of the weight matrix is multiplied with.

    Args:
        layer: convolution or linear layer.
        x: (N, ...) layer input.

    Returns:
        (groups, k, N * positions), k = in/groups * kernel size.

    """
    if layer.info.kind == "linear":
        return x.reshape(-1, x.shape[-1]).T.unsqueeze(0)
    g = layer.geometry
    unfolded = F.unfold(x, g["kernel_size"], dilation=g["dilation"], padding=g["padding"], stride=g["stride"])
    n, k, positions = unfolded.shape
    return unfolded.reshape(n, layer.groups, k // layer.groups, positions).permute(1, 2, 0, 3).flatten(2)


@torch.no_grad()
def gram(layer: QuantLayer, x: Tensor, y: Tensor | None = None, *, batch_size: int = 32) -> Tensor:
    """E[x y^T] over examples and positions, (groups, k, k); ``y`` defaults to ``x``."""
    total: Tensor | None = None
    count = 0
    for start in range(0, x.shape[0], batch_size):
        a = columns(layer, x[start : start + batch_size])
        b = a if y is None else columns(layer, y[start : start + batch_size])
        product = a @ b.mT
        total = product if total is None else total + product
        count += a.shape[-1]
    assert total is not None
    return total / count


def weight_range(q: Quantized, layer: QuantLayer, calib: Inputs) -> QParams:
    """Range of a layer's weights by its grid's estimator; input statistics are gathered only where it needs them."""
    grid = q.weight_grid(layer.info.name)
    if grid.range != "output_mse":
        return estimate(layer.original, grid)
    with q.full_precision_acts():
        (x,) = capture_input(q.net.model, layer.info.name, calib)[:1]
    return estimate(layer.original, grid, gram=gram(layer, x))
