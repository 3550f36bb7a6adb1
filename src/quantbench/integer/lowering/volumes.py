"""Convolutions of volumes and transposed ones as the one convolution that programs have.

A volume (C, D, H, W) is an image of C * D channels. Each layer of the result reads each layer of
the volume through one slice of the kernel, or not at all: those weights are zero. A transposed
convolution is one of its input with zeros between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import Unsupported
from quantbench.integer import ir
from quantbench.integer.lowering.order import Ordered
from quantbench.network.layers import Geometry
from quantbench.quantization.placement.kinds import layers_of_volume


def of_volume(
    weight: NDArray[np.int8], zero: NDArray[np.int64], geometry: Geometry, depth: int
) -> tuple[NDArray[np.int8], int]:
    """Weights (O * OD, I * D, kh, kw) of (O, I, kd, kh, kw), and OD.

    Args:
        weight: codes.
        zero: the code of 0.0 of each output channel, (O,).
        geometry: in three dimensions.
        depth: D of the input.

    Raises:
        Unsupported: a zero point that is no code.

    """
    if zero.min() < np.iinfo(np.int8).min or zero.max() > np.iinfo(np.int8).max:
        raise Unsupported("a convolution of volumes whose weights have no code for zero")
    outs, per_group, taps, kh, kw = weight.shape
    made = layers_of_volume(geometry, depth)
    shape = (outs, made, per_group, depth, kh, kw)
    wide = np.broadcast_to(zero.astype(np.int8).reshape(-1, 1, 1, 1, 1, 1), shape).copy()
    for to in range(made):
        for tap in range(taps):
            at = to * geometry.stride[0] + tap * geometry.dilation[0] - geometry.pads[0][0]
            if 0 <= at < depth:
                wide[:, to, :, at] = weight[:, :, tap]
    return wide.reshape(outs * made, per_group * depth, kh, kw), made


def flat(geometry: Geometry) -> Geometry:
    """The two last of three dimensions, or both of two; of lines, of images of height 1."""
    cut = {f: getattr(geometry, f)[-2:] for f in ("kernel", "stride", "dilation", "pads", "spread")}
    return replace(geometry, **cut).image()


def spread(made: Ordered, x: str, name: str, shape: ir.Shape, by: Sequence[int]) -> str:
    """Codes with ``by - 1`` zeros behind each row and each column, (C, H * by, W * by).

    Args:
        made: the program so far.
        x: codes (C, H, W).
        name: of the operators.
        shape: (C, H, W).
        by: rows and columns.

    """
    c, h, w = shape
    if by[0] > 1:
        x = _stretched(made, x, name, ((c * h, 1, w), (c, h * by[0], w)), (by[0] - 1, 0))
    if by[1] > 1:
        rows = h * by[0]
        x = _stretched(made, x, name, ((c * rows, w, 1), (c, rows, w * by[1])), (0, by[1] - 1))
    return x


def _stretched(
    made: Ordered, x: str, name: str, seen: tuple[ir.Shape, ir.Shape], more: tuple[int, int]
) -> str:
    """Codes seen as many small images, each padded below and on the right, seen as one again."""
    f, (small, whole), to = made.formats[x], seen, f"{x}.spread{more[0]}.{more[1]}"
    if to not in made.formats:
        parts, pads = made.push(_seen(name, x, f"{to}.parts", f, small)), (0, 0, 0, 0, *more)
        padded = ir.Pad(name=name, inputs=(parts,), output=f"{to}.padded", out=f, pads=pads)
        made.push(_seen(name, made.push(padded), to, f, whole))
    return to


def _seen(name: str, x: str, output: str, f: ir.Format, shape: ir.Shape) -> ir.Rearrange:
    common: dict[str, Any] = {"name": name, "inputs": (x,), "output": output, "out": f}
    return ir.Rearrange(**common, split=shape, axes=(0, 1, 2), into=shape)
