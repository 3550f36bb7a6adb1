"""The error of a layer from the second moments of each calibration example: descent that meets no image.

Without an activation function behind it, the error of a layer is a quadratic form in its weights for every single
example n, with its input x^ and its target t at all positions as columns:

    || t - (W + D) x^ - b ||^2 = sum of D G_n D^T - 2 D E_n^T + floor_n,    G_n = x^ x^^T,  E_n = (t - W x^ - b) x^^T.

A minibatch's gradient is 2 (D G - E), G and E being sums over its examples: the gradient that convolutions give, but
for the order of summation, and where many positions share few weights in a small part of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quantbench.activations import Activations, Memory
from quantbench.gram import weight_gradient
from quantbench.layers import QuantLayer
from quantbench.secondmoments import summed_moments

PER_VALUE = 16  # multiplications in the time in which one value comes from memory; one core, measured
STRIPS = 8  # of a symmetric matrix, each kept from its diagonal block on: 9/16 of all values


class ExampleMoments:
    """G_n, E_n and floor_n of every example.

    Args:
        layer: convolution or linear layer.
        x: its input over all examples.
        target: what should come out.
        memory: where the moments are kept.

    """

    def __init__(self, layer: QuantLayer, x: Activations, target: Activations, memory: Memory) -> None:
        self.layer = layer
        groups, out, k = layer.groups, layer.original.shape[0], layer.original[0].numel()
        self.shape = groups, out // groups, k
        self.strips = _strips(k)
        for n in range(len(x)):
            row = self._of(x.take(slice(n, n + 1)), target.take(slice(n, n + 1)))
            if n == 0:
                self.rows = memory.room(len(x), row, exact=True)
            self.rows.append(row)

    def _of(self, x: Tensor, target: Tensor) -> Tensor:
        """(1, values) moments of one example."""
        layer = self.layer
        g, _, self.positions = summed_moments(layer, x)
        missing = target - layer.run(x, layer.original)
        e = weight_gradient(layer, x, layer.original, missing)
        upper = [g[:, i:j, i:].flatten() for i, j in self.strips]
        floor = torch.linalg.vector_norm(missing).square().reshape(1)
        return torch.cat([*(part.float() for part in upper), e.flatten(), floor]).unsqueeze(0)

    def error(self, w: Tensor, batch: Tensor) -> Tensor:
        """|| target - layer(x, w) ||^2 summed over channels, mean over the examples of a batch and their positions.

        Args:
            w: the layer's weight, the only argument that gets a gradient.
            batch: example numbers.

        """
        error: Tensor = _Quadratic.apply(w, self, batch)
        return error

    def quadratic(self, w: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The error of a batch and its gradient."""
        groups, _, k = self.shape
        sums, at = self.rows.sum(batch), 0
        g = sums.new_empty(groups, k, k)
        for i, j in self.strips:
            size = groups * (j - i) * (k - i)
            g[:, i:j, i:] = strip = sums[at : at + size].view(groups, j - i, k - i)
            g[:, j:, i:j] = strip[..., j - i :].mT
            at += size
        d, e = (w - self.layer.original).reshape(self.shape), sums[at:-1].view(self.shape)
        gradient, count = torch.baddbmm(e, d, g, beta=-1), len(batch) * self.positions
        error = (torch.dot(d.flatten(), (gradient - e).flatten()) + sums[-1]) / count
        return error, gradient.mul_(2 / count).view(w.shape)


def worthwhile(layer: QuantLayer, examples: int, batch_size: int, memory: Memory) -> bool:
    """Whether a layer's moments fit in memory, and to read a batch of them takes less time than its convolutions."""
    groups, out, k = layer.groups, layer.original.shape[0], layer.original[0].numel()
    if layer.info.kind == "embedding":
        return False
    values = groups * sum((j - i) * (k - i) for i, j in _strips(k)) + out * k + 1
    quick = PER_VALUE * values + out * k * k // batch_size < 2 * layer.info.macs
    return quick and memory.used + 4 * values * examples <= memory.limit


def _strips(k: int) -> list[tuple[int, int]]:
    """First row of each strip, and the row behind its last one."""
    starts = range(0, k, -(-k // STRIPS))
    return list(zip(starts, [*starts[1:], k], strict=True))


class _Quadratic(torch.autograd.Function):
    """Error and gradient come together."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, moments: ExampleMoments, batch: Tensor) -> Tensor:
        with torch.autocast(w.device.type, enabled=False):  # differences of large numbers
            error, ctx.gradient = moments.quadratic(w, batch)
        return error

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient.mul_(grad[0]), None, None
