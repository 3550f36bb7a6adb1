"""Second moments of a layer's input, with itself and with the layer's error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quantbench.calibration.input_moments import second_moments
from quantbench.calibration.memory import Activations
from quantbench.quantization import conv3x3
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel

BATCH = 64  # examples whose inputs are held at a time


@dataclass(frozen=True, eq=False)
class Moments:
    """All that the error of a layer depends on.

    ||(W + D) x - target||^2 is, as the mean over positions, tr(D H D^T) + 2 tr(D R^T) + floor,
    all in float64.

    Attributes:
        h: E[x x^T], (groups, k, k), k = in/groups * kernel size, in the order of
            ``weight.flatten(1)``.
        r: E[(W x - target) x^T], (groups, out/groups, k); zero when the input is the one that made
            the target.
        floor: E ||W x - target||^2.
        mean: E[x], (groups, k).
        shift: E[W x - target], (groups, out/groups).

    """

    h: Tensor
    r: Tensor
    floor: float
    mean: Tensor
    shift: Tensor

    def error(self, d: Tensor) -> float:
        """The objective for a change of the weights, (groups, out/groups, k)."""
        d = d.double()
        return self.floor + float(((d @ self.h + 2 * self.r) * d).sum())

    def centred(self) -> Moments:
        """The same with the best bias for every D, see :meth:`bias`.

        That bias takes E[(W + D) x - target] away.
        """
        h = self.h - self.mean.unsqueeze(2) * self.mean.unsqueeze(1)
        r = self.r - self.shift.unsqueeze(2) * self.mean.unsqueeze(1)
        floor = self.floor - float(self.shift.square().sum())
        return Moments(h, r, floor, torch.zeros_like(self.mean), torch.zeros_like(self.shift))

    def bias(self, d: Tensor) -> Tensor:
        """(out,) what to add to the bias so that E[(W + D) x - target] becomes zero."""
        return -(self.shift + (d.double() @ self.mean.unsqueeze(2)).squeeze(2)).flatten().to(d)


def weight_gradient(
    layer: QuantLayer, x: Tensor, w: Tensor, output_gradient: Tensor, above: Tensor | None = None
) -> Tensor:
    """Gradient of a layer's weight: the sum of output gradient times x^T.

    Args:
        layer: convolution, linear layer or table of embeddings.
        x: its input.
        w: its weight.
        output_gradient: like its output.
        above: the output of a ReLU behind a layer that joins one; the gradient counts where it is
            above 0.

    """
    if layer.joins:
        own = conv3x3.weight_gradient(x, output_gradient, above)
        if own is not None:
            return own
    if above is not None:
        output_gradient = torch.ops.aten.threshold_backward(
            output_gradient, above.to(output_gradient), 0
        )
    if layer.info.kind == "linear":
        return output_gradient.flatten(0, -2).T @ x.flatten(0, -2)
    if layer.info.kind == "embedding":
        return torch.zeros_like(w).index_add_(0, x.flatten(), output_gradient.flatten(0, -2))
    g, only_weight = layer.geometry, [False, True, False]
    assert g is not None
    gaps = g.has_gaps(x.shape[1])
    plain = g.even and not gaps
    x = x if plain else g.prepared(x)
    x, stride = (g.points(x), (1,) * len(g.stride)) if gaps else (x, g.stride)
    padding = [before if plain else 0 for before, _ in g.pads]
    transposed, output_padding = False, [0] * len(padding)
    geometry = stride, padding, g.dilation, transposed, output_padding, layer.groups
    gradients = torch.ops.aten.convolution_backward(
        output_gradient, x, w, None, *geometry, only_weight
    )
    gradient: Tensor = gradients[1]
    return gradient


@torch.no_grad()
def gram(layer: QuantLayer, x: Tensor | Activations) -> Tensor:
    """E[x x^T] over examples and positions, (groups, k, k), ordered as ``weight.flatten(1)``."""
    return second_moments(layer, x)[0].float()


@torch.no_grad()
def moments(layer: QuantLayer, x: Activations, target: Activations, batch: int = BATCH) -> Moments:
    """Moments of a layer with full-precision weights over all examples."""
    out = layer.original.shape[0]
    r = torch.zeros_like(layer.original, dtype=torch.float64)
    shift, floor, positions = r.new_zeros(out), r.new_zeros(1), 0
    for start in range(0, len(x), batch):
        part = slice(start, min(start + batch, len(x)))
        inputs = x.take(part)
        error = layer.run(inputs, layer.original) - target.take(part)
        r += weight_gradient(layer, inputs, layer.original, error)
        if layer.geometry:
            shift += error.sum((0, *range(2, error.dim())))
        else:
            shift += error.flatten(0, -2).sum(0)
        floor += torch.linalg.vector_norm(error).square()
        positions += error.numel() // out
    sums = torch.cat([r.flatten(), shift, floor]) / positions
    parallel.average([sums])
    r, shift, floor = torch.split(sums, [r.numel(), out, 1])
    h, mean = second_moments(layer, x)
    groups = layer.groups
    r, shift = r.view(groups, out // groups, -1), shift.view(groups, -1)
    return Moments(h, r, float(floor), mean, shift)
