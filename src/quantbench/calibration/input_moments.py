"""E[x x^T] over the columns that a layer's weights meet, without making these columns.

A convolution multiplies its weights with one column for every output position: the part of the
padded image below the kernel there. Making all columns takes kernel size times the memory of the
image, and H = sum of x x^T takes k^2 multiplications for each of them. Most of these are made again
and again, for the same pixels meet under many places of the kernel.

Take the kernel's rows one by one. Let A_y be row y of the padded images, unfolded along the row:
one line for every image and output column, with the pixels that a row of the kernel meets there. At
output row r, row i of the kernel meets row r stride + i dilation, so that block (i, j) of H is

    H_ij = sum over r of  A_(r stride + i dilation)^T A_(r stride + j dilation).

Of the rows y only every stride-th one is met by row i: those y = stride t + phase_i with t = r +
start_i, where i dilation = stride start_i + phase_i, 0 <= phase_i < stride. With B_p(t) = A_(stride
t + p),

    H_ij = sum over t from start_i to start_i + height - 1 of  B_phase_i(t)^T B_phase_j(t + lag),
           lag = start_j - start_i.

What is summed depends on the two phases and the lag alone, not on i. Without stride it depends on
j - i: H would be block Toeplitz, were it not for the window of t, which begins elsewhere for each
i. So one product is made for each lag, over the rows t that are in all windows, and each block gets
the few rows at the image's border that are in its window only. Of a 3 x 3 kernel, 3 pairs of rows
are multiplied instead of all 6 (the rest being mirror images), of a 5 x 5 kernel 5 instead of 15,
and images are unfolded in one direction only.

:func:`by_columns` is the definition in four lines, which tests hold this against.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from quantbench.calibration.columns import columns
from quantbench.calibration.memory import Activations
from quantbench.network.layers import Geometry
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel

# values of a column matrix that are made at a time: they fit the second and third cache
CHUNK = 2**22

# of a product of columns with themselves: of the products of parts, two thirds are needed
PARTS = 3


class Tap(NamedTuple):
    """Where a row of the kernel is at output row 0: row ``stride * start + phase`` of the image."""

    phase: int
    start: int


class Lag(NamedTuple):
    """What a block of H depends on: the phases of its two taps, and how far apart they start."""

    phase: int
    other_phase: int
    rows: int

    @property
    def none(self) -> bool:
        """Whether rows are multiplied with themselves, so that the product is symmetric."""
        return self.phase == self.other_phase and self.rows == 0


class Unfolded(NamedTuple):
    """Images, unfolded along their rows.

    Attributes:
        rows: B_p of every phase: (groups, rows, N * out width, kernel width * in/groups).
        taps: of every row of the kernel.
        height: number of output rows.

    """

    rows: list[Tensor]
    taps: list[Tap]
    height: int


@torch.no_grad()
def second_moments(layer: QuantLayer, x: Tensor | Activations) -> tuple[Tensor, Tensor]:
    """Second and first moments of a layer's input, over the examples of all processes.

    Args:
        layer: convolution or linear layer.
        x: (N, ...) its input; images channels-last.

    Returns:
        (groups, k, k) E[x x^T] and (groups, k) E[x] over examples and positions, k = in/groups *
        kernel size, in the order of ``weight.flatten(1)``; float64.

    """
    h, mean, count = summed_moments(layer, x)
    h /= count
    mean /= count
    parallel.average([h, mean])
    return h, mean


def by_columns(layer: QuantLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`second_moments` of one process by their definition: slow, and plainly right."""
    a = columns(layer, x.double())
    a = a.permute(1, 2, 0, 3).flatten(2)  # (groups, k, examples and positions)
    h = a @ a.mT / a.shape[2]
    return h, a.mean(2)


@torch.no_grad()
def summed_moments(layer: QuantLayer, x: Tensor | Activations) -> tuple[Tensor, Tensor, int]:
    """Sums behind :func:`second_moments`, of these examples alone, and the positions summed."""
    if layer.geometry and len(layer.geometry.kernel) == 3:
        return _volumes(layer, x)
    image = layer.geometry and layer.geometry.image()  # convolutions of lines are of images, too
    heights = image.kernel[0] if image else 1
    groups, k = layer.groups, layer.original[0].numel()
    blocks = (groups, heights, k // heights, heights, k // heights)
    h = torch.zeros(blocks, dtype=torch.float64, device=x.device)
    mean, count = h.new_zeros(groups, heights, k // heights), 0
    # of the columns of one example
    values = max(1, layer.info.macs // layer.original.shape[0] * groups // heights)
    for start in range(0, x.shape[0], each := max(1, CHUNK // values)):
        index = slice(start, min(start + each, x.shape[0]))
        part = x.take(index) if isinstance(x, Activations) else x[index]
        unfolded = _unfolded(image, groups, part) if image else _flat(part)
        _add_means(mean, unfolded)
        _add_lags(h, unfolded)
        count += unfolded.height * unfolded.rows[0].shape[2]
    h, mean = h.view(groups, k, k), mean.view(groups, k)
    h = h.triu() + h.triu(1).mT  # what lies below the diagonal is its mirror image
    if image:
        h, mean = _channels_first(h, mean, spots=layer.original[0, 0].numel())
    return h, mean, count


def _volumes(layer: QuantLayer, x: Tensor | Activations) -> tuple[Tensor, Tensor, int]:
    """The same for convolutions of volumes, one example after the other, by all their columns."""
    groups, k = layer.groups, layer.original[0].numel()
    h = torch.zeros(groups, k, k, dtype=torch.float64, device=x.device)
    mean, count = h.new_zeros(groups, k), 0
    for i in range(x.shape[0]):
        index = slice(i, i + 1)
        part = x.take(index) if isinstance(x, Activations) else x[index]
        (a,) = columns(layer, part)
        h += a @ a.mT
        mean += a.sum(2)
        count += a.shape[2]
    return h, mean, count


def _channels_first(h: Tensor, mean: Tensor, spots: int) -> tuple[Tensor, Tensor]:
    """From the order of unfolded rows, (kernel, channels), to the weights', (channels, kernel)."""
    groups, k = mean.shape
    h = h.view(groups, spots, -1, spots, k // spots).permute(0, 2, 1, 4, 3)
    mean = mean.view(groups, spots, -1).mT
    return h.reshape(groups, k, k), mean.reshape(groups, k)


def _flat(x: Tensor) -> Unfolded:
    """A linear layer's input as that of a kernel of one row."""
    return Unfolded([x.reshape(1, 1, -1, x.shape[-1])], [Tap(0, 0)], 1)


def _unfolded(g: Geometry, groups: int, x: Tensor) -> Unfolded:
    """Of the padded images, every stride-th row from each phase on, as lines for a kernel's row."""
    (kh, kw), (sh, sw), (dh, dw) = g.kernel, g.stride, g.dilation
    images = x if x.dim() == 4 else x.unsqueeze(2)
    padded = g.prepared(images).permute(0, 2, 3, 1)
    n, height, width, channels = padded.shape
    high = (height - dh * (kh - 1) - 1) // sh + 1
    wide = (width - dw * (kw - 1) - 1) // sw + 1
    per = channels // groups
    s0, s1, s2, s3 = padded.stride()
    phases = []
    for phase in range(min(sh, height)):
        shape = (groups, -(-(height - phase) // sh), n, wide, kw, per)
        strides = (per * s3, sh * s1, s0, sw * s2, dw * s2, s3)
        windows = padded[:, phase:].as_strided(shape, strides)
        phases.append(windows.reshape(*shape[:2], n * wide, kw * per))
    return Unfolded(phases, [Tap(dh * i % sh, dh * i // sh) for i in range(kh)], high)


def _add_means(mean: Tensor, unfolded: Unfolded) -> None:
    """Add the first moments: for each tap the sum over its window."""
    rows, taps, height = unfolded
    for i, tap in enumerate(taps):
        mean[:, i] += rows[tap.phase][:, tap.start : tap.start + height].sum((1, 2))


def _add_lags(h: Tensor, unfolded: Unfolded) -> None:
    """Add the second moments, lag by lag; of ``h`` nothing below the diagonal counts."""
    rows, taps, height = unfolded
    for lag, pairs in _by_lag(taps).items():
        x, y = rows[lag.phase], rows[lag.other_phase][:, lag.rows :]
        starts = [taps[i].start for i, _ in pairs]
        low, top = max(starts), min(starts) + height  # rows in all windows
        common = _product(x, y, low, top, symmetric=lag.none)
        for (i, j), begin in zip(pairs, starts, strict=True):
            end = begin + height
            h[:, i, :, j] += common
            for first, last in ((begin, min(low, end)), (max(top, low, begin), end)):  # the border
                h[:, i, :, j] += _product(x, y, first, last, symmetric=lag.none)


def _by_lag(taps: list[Tap]) -> dict[Lag, list[tuple[int, int]]]:
    """Pairs of the kernel's rows, the first one not below the second, that share their products."""
    alike: dict[Lag, list[tuple[int, int]]] = defaultdict(list)
    for i, one in enumerate(taps):
        for j, other in enumerate(taps[i:], i):
            alike[Lag(one.phase, other.phase, other.start - one.start)].append((i, j))
    return alike


def _product(x: Tensor, y: Tensor, first: int, last: int, *, symmetric: bool) -> Tensor | int:
    """Sum of x^T y over some rows of (groups, rows, positions, k).

    Of a ``symmetric`` product a part of what lies below the diagonal is left out.
    """
    if first >= last:
        return 0
    x, y = x[:, first:last].flatten(1, 2), y[:, first:last].flatten(1, 2)
    if not symmetric:
        return x.mT @ y
    k = x.shape[2]
    part, product = max(1, -(-k // PARTS)), x.new_zeros(x.shape[0], k, k)
    for i in range(0, k, part):
        product[:, i : i + part, i:] = x[..., i : i + part].mT @ y[..., i:]
    return product
