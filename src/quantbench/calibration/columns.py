"""What the rows of a layer's weight matrix are multiplied with, one column for each position."""

from __future__ import annotations

from torch import Tensor

from quantbench.network.layers import Geometry
from quantbench.quantization.layers import QuantLayer


def columns(layer: QuantLayer, x: Tensor) -> Tensor:
    """Columns (n, groups, k, positions), k in the order of ``weight.flatten(1)``.

    Args:
        layer: a convolution of any rank, transposed or not, or a linear layer.
        x: (n, ...) its input.

    """
    g = layer.geometry
    if g is None:
        return x.reshape(len(x), 1, -1, x.shape[-1]).mT
    found = windows(g.prepared(x), g)  # (n, channels, *kernel, *positions)
    return found.reshape(len(x), layer.groups, layer.original[0].numel(), -1)


def windows(x: Tensor, g: Geometry) -> Tensor:
    """View of a prepared input (n, channels, ...) as (n, channels, kernel ..., positions ...)."""
    sizes = x.shape[2:]
    spans = [d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel, strict=True)]
    out = [(n - s) // t + 1 for n, s, t in zip(sizes, spans, g.stride, strict=True)]
    steps = x.stride()[2:]
    taps = [s * d for s, d in zip(steps, g.dilation, strict=True)]
    moves = [s * t for s, t in zip(steps, g.stride, strict=True)]
    shape = (*x.shape[:2], *g.kernel, *out)
    return x.as_strided(shape, (*x.stride()[:2], *taps, *moves), x.storage_offset())
