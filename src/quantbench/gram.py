"""Second moments of a layer's input: E[x x^T] over the columns that its weights meet, and with the layer's error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench import convolve, parallel
from quantbench.activations import Activations
from quantbench.capture import batches, capture_input
from quantbench.grids import QParams
from quantbench.layers import QuantLayer
from quantbench.network import Inputs
from quantbench.quantized import Quantized
from quantbench.ranges import estimate

BATCH = 64  # examples whose inputs are held at a time
CHUNK = 2**22  # values of the column matrix that are made at a time: they fit the second and third cache
PARTS = 3  # of the columns: of the products of parts, two thirds are needed


@dataclass(frozen=True, eq=False)
class Moments:
    """All that ||(W + D) x - target||^2 depends on: mean over positions of tr(D H D^T) + 2 tr(D R^T) + floor; float64.

    Attributes:
        h: E[x x^T], (groups, k, k), k = in/groups * kernel size, in the order of ``weight.flatten(1)``.
        r: E[(W x - target) x^T], (groups, out/groups, k); zero when the input is the one that made the target.
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
        """The same with the best bias for every D, which takes E[(W + D) x - target] away; see :meth:`bias`."""
        h = self.h - self.mean.unsqueeze(2) * self.mean.unsqueeze(1)
        r = self.r - self.shift.unsqueeze(2) * self.mean.unsqueeze(1)
        floor = self.floor - float(self.shift.square().sum())
        return Moments(h, r, floor, torch.zeros_like(self.mean), torch.zeros_like(self.shift))

    def bias(self, d: Tensor) -> Tensor:
        """(out,) what to add to the bias so that E[(W + D) x - target] becomes zero."""
        return -(self.shift + (d.double() @ self.mean.unsqueeze(2)).squeeze(2)).flatten().to(d)


def columns(layer: QuantLayer, x: Tensor) -> Tensor:
    """Columns that one row of the weight matrix is multiplied with.

    Args:
        layer: convolution or linear layer.
        x: (N, ...) layer input; images channels-last.

    Returns:
        (groups, N * positions, k), k = kernel size * in/groups: for each position of the kernel, the channels.

    """
    if layer.info.kind == "linear":
        return x.reshape(1, -1, x.shape[-1])
    g = layer.geometry
    (kh, kw), (sh, sw), (dh, dw) = g["kernel_size"], g["stride"], g["dilation"]
    padded = F.pad(x, _padding(layer)).permute(0, 2, 3, 1)
    n, height, width, channels = padded.shape
    s0, s1, s2, s3 = padded.stride()
    positions = ((height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1)
    per = channels // layer.groups
    shape = (layer.groups, n, *positions, kh, kw, per)
    windows = padded.as_strided(shape, (per * s3, s0, sh * s1, sw * s2, dh * s1, dw * s2, s3))
    return windows.reshape(layer.groups, -1, kh * kw * per)


def weight_gradient(layer: QuantLayer, x: Tensor, w: Tensor, output_gradient: Tensor) -> Tensor:
    """Gradient of a layer's weight, given its input and the gradient of its output: sum of gradient x^T."""
    if layer.info.kind == "linear":
        return output_gradient.flatten(0, -2).T @ x.flatten(0, -2)
    if layer.info.kind == "embedding":
        return torch.zeros_like(w).index_add_(0, x.flatten(), output_gradient.flatten(0, -2))
    if layer.joins and (own := convolve.weight_gradient(x, output_gradient)) is not None:
        return own
    g, padding, only_weight = layer.geometry, layer.geometry["padding"], [False, True, False]
    if isinstance(padding, str):
        x, padding = F.pad(x, _padding(layer)), [0, 0]
    gradient: Tensor = torch.ops.aten.convolution_backward(
        output_gradient, x, w, None, g["stride"], padding, g["dilation"], False, [0, 0], layer.groups, only_weight
    )[1]
    return gradient


def _padding(layer: QuantLayer) -> tuple[int, int, int, int]:
    """Zeros left, right, above and below; ``same`` puts an odd one right and below."""
    g = layer.geometry
    if g["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(g["dilation"], g["kernel_size"], strict=True)]
        return total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2
    down, right = (0, 0) if g["padding"] == "valid" else g["padding"]
    return right, right, down, down


@torch.no_grad()
def gram(layer: QuantLayer, x: Tensor | Activations) -> Tensor:
    """E[x x^T] over examples and positions, (groups, k, k) in the order of ``weight.flatten(1)``."""
    return _second_moments(layer, x)[0].float()


def _second_moments(layer: QuantLayer, x: Tensor | Activations) -> tuple[Tensor, Tensor]:
    """(groups, k, k) E[x x^T] and (groups, k) E[x], in float64."""
    groups, k = layer.groups, layer.original[0].numel()
    h = torch.zeros(groups, k, k, dtype=torch.float64, device=layer.original.device)
    mean, count, part = h.new_zeros(groups, k), 0, max(1, -(-k // PARTS))
    values = max(1, layer.info.macs // layer.original.shape[0] * groups)  # of the column matrix, for one example
    for start in range(0, x.shape[0], max(1, CHUNK // values)):
        rows = slice(start, min(start + max(1, CHUNK // values), x.shape[0]))
        a = columns(layer, x.take(rows) if isinstance(x, Activations) else x[rows])
        for i in range(0, k, part):  # the other half is its mirror image
            h[:, i : i + part, i:] += a[..., i : i + part].mT @ a[..., i:]
        mean += a.sum(1)
        count += a.shape[1]
    h = (h.triu() + h.triu(1).mT) / count
    mean /= count
    parallel.average([h, mean])
    if layer.info.kind == "linear":
        return h, mean
    spots = layer.original[0, 0].numel()  # from (kernel position, channel) to the order of weight.flatten(1)
    h = h.view(groups, spots, -1, spots, k // spots).permute(0, 2, 1, 4, 3).reshape(groups, k, k)
    return h, mean.view(groups, spots, -1).mT.reshape(groups, k)


@torch.no_grad()
def moments(layer: QuantLayer, x: Activations, target: Activations, batch: int = BATCH) -> Moments:
    """Moments of a layer with full-precision weights, its input and its target over all examples."""
    out = layer.original.shape[0]
    r = torch.zeros_like(layer.original, dtype=torch.float64)
    shift, floor, positions = r.new_zeros(out), r.new_zeros(1), 0
    for start in range(0, len(x), batch):
        part = slice(start, min(start + batch, len(x)))
        inputs = x.take(part)
        error = layer.run(inputs, layer.original) - target.take(part)
        r += weight_gradient(layer, inputs, layer.original, error)
        shift += error.sum((0, 2, 3)) if error.dim() == 4 else error.flatten(0, -2).sum(0)
        floor += torch.linalg.vector_norm(error).square()
        positions += error.numel() // out
    sums = torch.cat([r.flatten(), shift, floor]) / positions
    parallel.average([sums])
    r, shift, floor = torch.split(sums, [r.numel(), out, 1])
    h, mean = _second_moments(layer, x)
    groups = layer.groups
    r, shift = r.view(groups, out // groups, -1), shift.view(groups, -1)
    return Moments(h, r, float(floor), mean, shift)


def weight_range(q: Quantized, layer: QuantLayer, calib: Inputs) -> QParams:
    """Range of a layer's weights by its grid's estimator; input statistics are gathered only where it needs them."""
    grid = q.weight_grid(layer.info.name)
    if grid.range != "output_mse":
        return estimate(layer.original, grid)
    h = torch.zeros(())
    with q.full_precision_acts():
        for part in batches(calib, BATCH):
            h = h + gram(layer, capture_input(q.net.model, layer.info.name, part)[0]) * len(part[0])
    return estimate(layer.original, grid, gram=h / len(calib[0]))


def round_to_nearest(q: Quantized, layer: QuantLayer, calib: Inputs) -> None:
    """Put a layer on its grid, each weight at the nearest level."""
    qp = weight_range(q, layer, calib)
    layer.set_codes(qp.quantize(layer.original), qp)


def learnt_layers(q: Quantized, calib: Inputs) -> list[QuantLayer]:
    """Layers whose rounding can be learnt, in execution order; tables of embeddings are put on their grids here.

    One row of a table is looked up at a time, so that ||(W - Q(W)) x||^2 is a sum over single weights, with nearest as
    its optimum: nothing is left to learn.
    """
    learnt = []
    for layer in q.layers():
        if layer.info.kind == "embedding":
            round_to_nearest(q, layer, calib)
        else:
            learnt.append(layer)
    return learnt
