"""The error of a layer from each example's second moments: descent without convolutions.

Without an activation function behind it, the error of a layer is a quadratic form in its weights
for every single example n. With its input x^ and its target t, all positions as columns, and D a
change of the weights W,

    || t - (W + D) x^ - b ||^2 = tr(D G_n D^T) - 2 tr(D E_n^T) + floor_n,

    G_n = x^ x^^T,    E_n = (t - W x^ - b) x^^T.

The gradient of a minibatch is 2 (D G - E) over its number of positions, G and E being sums over its
examples. It is that which convolutions give but for the order of summation, and where many
positions share few weights it takes a small part of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quantbench.calibration.input_moments import summed_moments
from quantbench.calibration.layer_moments import weight_gradient
from quantbench.calibration.memory import Activations, Memory
from quantbench.quantization.layers import QuantLayer

# multiplications in the time in which one value comes from memory; one core, measured
PER_VALUE = 16

BLOCKS = 8  # of rows of a symmetric matrix, each kept from its diagonal on: 9/16 of all values


class ExampleMoments:
    """G_n, E_n and floor_n of every example.

    Args:
        layer: convolution or linear layer.
        x: its input over all examples.
        target: what should come out.
        memory: where the moments are kept; past its limit in a file, which is slower and gives the
            same.

    """

    def __init__(
        self, layer: QuantLayer, x: Activations, target: Activations, memory: Memory
    ) -> None:
        self.layer = layer
        groups, out, k = layer.groups, layer.original.shape[0], layer.original[0].numel()
        self.shape, self.blocks = (groups, out // groups, k), _blocks(k)
        for n in range(len(x)):
            row = self._of(x.take(slice(n, n + 1)), target.take(slice(n, n + 1)))
            if n == 0:
                self.rows = memory.room(len(x), row, exact=True)
            self.rows.append(row)

    def _of(self, x: Tensor, target: Tensor) -> Tensor:
        """(1, values) moments of one example."""
        layer = self.layer
        g, _, self.positions = summed_moments(layer, x)
        residual = target - layer.run(x, layer.original)
        e = weight_gradient(layer, x, layer.original, residual)
        upper = [g[:, i:j, i:].flatten() for i, j in self.blocks]
        floor = torch.linalg.vector_norm(residual).square().reshape(1)
        return torch.cat([*(part.float() for part in upper), e.flatten(), floor]).unsqueeze(0)

    def error(self, w: Tensor, batch: Tensor) -> Tensor:
        """|| target - layer(x, w) ||^2 of a batch.

        It is summed over channels, and the mean over examples and their positions.

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
        for i, j in self.blocks:
            size = groups * (j - i) * (k - i)
            g[:, i:j, i:] = block = sums[at : at + size].view(groups, j - i, k - i)
            g[:, j:, i:j] = block[..., j - i :].mT
            at += size
        d, e = (w - self.layer.original).reshape(self.shape), sums[at:-1].view(self.shape)
        gradient, count = torch.baddbmm(e, d, g, beta=-1), len(batch) * self.positions
        error = (torch.dot(d.flatten(), (gradient - e).flatten()) + sums[-1]) / count
        return error, gradient.mul_(2 / count).view(w.shape)


def worthwhile(layer: QuantLayer, examples: int, batch_size: int, iterations: int) -> bool:
    """Whether descent on a layer's moments takes less time than on images.

    The taking of the moments is included.

    Args:
        layer: convolution or linear layer.
        examples: of this process.
        batch_size: of them, in one iteration.
        iterations: of the whole descent.

    """
    groups, out, k = layer.groups, layer.original.shape[0], layer.original[0].numel()
    batch, macs = min(batch_size, examples), layer.info.macs
    values = groups * sum((j - i) * (k - i) for i, j in _blocks(k)) + out * k
    saved = 2 * macs - PER_VALUE * values - out * k * k // batch  # in one visit of one example
    setup = macs * k * groups // out + 2 * macs  # of one example
    return iterations * batch * saved > examples * setup


def _blocks(k: int) -> list[tuple[int, int]]:
    """First row of each block, and the row behind its last one."""
    starts = range(0, k, -(-k // BLOCKS))
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
        return ctx.gradient * grad[0], None, None
