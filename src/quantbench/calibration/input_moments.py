"""E[x x^T] over the columns that a layer's weights meet, without making these columns.

Rows i and j of a kernel meet pixels that lie j - i rows apart, whatever i is. So their second
moments depend on that distance alone, but for a few rows at the image's border. Of a 3 x 3 kernel,
3 pairs of rows are multiplied instead of all 6 (the rest being mirror images), of a 5 x 5 kernel 5
instead of 15, and images are unfolded in one direction only.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.calibration.memory import Activations
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel

# values of a column matrix that are made at a time: they fit the second and third cache
CHUNK = 2**22

# of a product of columns with themselves: of the products of parts, two thirds are needed
PARTS = 3


class Tap(NamedTuple):
    """The image's row that a kernel's row meets first: number ``start`` of every stride-th one from ``phase`` on."""

    phase: int
    start: int


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


@torch.no_grad()
def summed_moments(layer: QuantLayer, x: Tensor | Activations) -> tuple[Tensor, Tensor, int]:
    """The sums behind :func:`second_moments`, over these examples alone, and the number of positions summed."""
    image = layer.info.kind != "linear"
    heights, spots = (
        (layer.geometry["kernel_size"][0], layer.original[0, 0].numel()) if image else (1, 1)
    )
    groups, k = layer.groups, layer.original[0].numel()
    h = torch.zeros(
        groups, heights, k // heights, heights, k // heights, dtype=torch.float64, device=x.device
    )
    mean, count = h.new_zeros(groups, heights, k // heights), 0
    # of the columns of one example
    values = max(1, layer.info.macs // layer.original.shape[0] * groups // heights)
    for start in range(0, x.shape[0], each := max(1, CHUNK // values)):
        rows = slice(start, min(start + each, x.shape[0]))
        part = x.take(rows) if isinstance(x, Activations) else x[rows]
        a, taps, high = _unfolded(layer, part) if image else _flat(part)
        _add(h, mean, a, taps, high)
        count += high * a[0].shape[2]
    h, mean = h.view(groups, k, k), mean.view(groups, k)
    h = h.triu() + h.triu(1).mT  # what lies below the diagonal is its mirror image
    if image:
        h = (
            h.view(groups, spots, -1, spots, k // spots)
            .permute(0, 2, 1, 4, 3)
            .reshape(groups, k, k)
        )
        mean = mean.view(groups, spots, -1).mT.reshape(groups, k)
    return h, mean, count


def zeros_around(layer: QuantLayer) -> tuple[int, int, int, int]:
    """Zeros left, right, above and below; ``same`` puts an odd one right and below."""
    g = layer.geometry
    if g["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(g["dilation"], g["kernel_size"], strict=True)]
        return total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2
    down, right = (0, 0) if g["padding"] == "valid" else g["padding"]
    return right, right, down, down


def _flat(x: Tensor) -> tuple[list[Tensor], list[Tap], int]:
    """A linear layer's input as that of a kernel of one row."""
    return [x.reshape(1, 1, -1, x.shape[-1])], [Tap(0, 0)], 1


def _unfolded(layer: QuantLayer, x: Tensor) -> tuple[list[Tensor], list[Tap], int]:
    """Images unfolded along their rows, for each phase: (groups, rows, N * out width, kernel width * in/groups).

    Also where the kernel's rows begin, and the number of output rows.
    """
    g = layer.geometry
    (kh, kw), (sh, sw), (dh, dw) = g["kernel_size"], g["stride"], g["dilation"]
    padded = F.pad(x, zeros_around(layer)).permute(0, 2, 3, 1)
    n, height, width, channels = padded.shape
    high, wide = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
    per = channels // layer.groups
    s0, s1, s2, s3 = padded.stride()
    phases = []
    for phase in range(min(sh, height)):
        shape = (layer.groups, -(-(height - phase) // sh), n, wide, kw, per)
        windows = padded[:, phase:].as_strided(shape, (per * s3, sh * s1, s0, sw * s2, dw * s2, s3))
        phases.append(windows.reshape(*shape[:2], n * wide, kw * per))
    return phases, [Tap(dh * i % sh, dh * i // sh) for i in range(kh)], high


def _add(h: Tensor, mean: Tensor, a: list[Tensor], taps: list[Tap], high: int) -> None:
    """Add the moments of some examples; of ``h`` nothing below the diagonal counts."""
    alike: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    for i, one in enumerate(taps):
        mean[:, i] += a[one.phase][:, one.start : one.start + high].sum((1, 2))
        for j, other in enumerate(taps[i:], i):
            alike[one.phase, other.phase, other.start - one.start].append((i, j))
    for (phase, other_phase, apart), pairs in alike.items():
        low, top = max(taps[i].start for i, _ in pairs), min(taps[i].start for i, _ in pairs) + high
        x, y, same = a[phase], a[other_phase][:, apart:], phase == other_phase and apart == 0
        common = _product(x, y, low, top, same=same)
        for i, j in pairs:
            begin, end = taps[i].start, taps[i].start + high
            h[:, i, :, j] += common
            for first, last in ((begin, min(low, end)), (max(top, low, begin), end)):
                h[:, i, :, j] += _product(x, y, first, last, same=same)


def _product(x: Tensor, y: Tensor, first: int, last: int, *, same: bool) -> Tensor | int:
    """Sum of x^T y over some rows of (groups, rows, positions, k); of a ``same`` y what lies above the diagonal."""
    if first >= last:
        return 0
    x, y = x[:, first:last].flatten(1, 2), y[:, first:last].flatten(1, 2)
    if not same:
        return x.mT @ y
    k = x.shape[2]
    part, product = max(1, -(-k // PARTS)), x.new_zeros(x.shape[0], k, k)
    for i in range(0, k, part):
        product[:, i : i + part, i:] = x[..., i : i + part].mT @ y[..., i:]
    return product
