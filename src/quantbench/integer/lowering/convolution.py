"""One quantized layer as the integers of a ``Conv``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import Unsupported
from quantbench.integer.ir import Conv, Format
from quantbench.integer.lowering.formats import Clamp
from quantbench.integer.lowering.volumes import flat, of_volume
from quantbench.integer.requirements import TINY
from quantbench.network.layers import Geometry
from quantbench.quantization.grids import SMALLEST
from quantbench.quantization.layers import QuantLayer
from quantbench.quantization.placement.kinds import without_integers

_POINT = Geometry((1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))  # of a linear layer

BIAS_ROOM = 1 << 30  # a bias beyond this leaves too little of int32 to the sum of products


def conv(
    layer: QuantLayer,
    inputs: tuple[str, ...],
    x: Format,
    y: Format | None,
    output: str,
    clamp: Clamp,
    pads: tuple[int, int, int, int],
    depth: int = 0,
) -> Conv:
    """The integer form of a convolution or linear layer.

    Args:
        layer: with its codes.
        inputs: names of the input and, if there is one, of the residual.
        x: format of the input.
        y: format of the output; None for logits.
        output: name of the output.
        clamp: lowest and highest output code, of all channels or of each.
        pads: zeros in front of the layer (top, left, bottom, right), on top of its own padding.
        depth: layers of the input of a convolution of volumes.

    Raises:
        Unsupported: weights that are not 8-bit integers times one scale a channel, or a convolution
            that programs do not have, see ``without_integers``.

    """
    if why := without_integers(layer):
        raise Unsupported(f"layer {layer.info.name!r}: {why}")
    weight, zero, bits = _weight(layer)
    scale = _per_channel(layer, "scale").astype(np.float64)
    bias = layer.bias.detach().cpu().double().numpy()
    geometry = layer.geometry or _POINT
    if depth:
        weight, made = of_volume(weight, zero, geometry, depth)
        zero, scale, bias = (np.repeat(a, made) for a in (zero, scale, bias))
    window = flat(geometry)
    (top, bottom), (left, right) = window.pads
    # the spread input ends in zeros of its own
    bottom, right = bottom - window.spread[0] + 1, right - window.spread[1] + 1
    integers = _integers(weight, zero, scale, bias, x.scale, 1.0 if y is None else y.scale)
    return Conv(
        name=layer.info.name,
        inputs=inputs,
        output=output,
        out=y,
        **_shaped(integers, window.kernel, clamp),
        weight_bits=bits,
        stride=(window.stride[0], window.stride[1]),
        pads=(top + pads[0], left + pads[1], bottom + pads[2], right + pads[3]),
        dilation=(window.dilation[0], window.dilation[1]),
        groups=layer.groups,
    )


def affine(
    name: str,
    inputs: tuple[str, ...],
    x: Format,
    y: Format | None,
    output: str,
    clamp: Clamp,
    *,
    gain: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> Conv:
    """A product and a sum for each channel, as a convolution of each channel by itself.

    Its weight is the largest code with the gain's sign, so that nothing of the gain is lost.

    Args:
        name: of the operator.
        inputs: names of the input and, if there is one, of the residual.
        x: format of the input.
        y: format of the output; None for logits.
        output: name of the output.
        clamp: lowest and highest output code, of all channels or of each.
        gain: (C,).
        shift: (C,).

    """
    code = np.where(gain < 0, -1, 1) * (gain != 0) * np.iinfo(np.int8).max
    scale = np.maximum(np.abs(gain) / np.iinfo(np.int8).max, SMALLEST)
    weight, zero = code.astype(np.int8).reshape(-1, 1), np.zeros(len(gain), np.int64)
    step = 1.0 if y is None else y.scale
    integers = _integers(weight, zero, scale, shift, x.scale, step)
    shaped = _shaped(integers, (1, 1), clamp)
    return Conv(name=name, inputs=inputs, output=output, out=y, groups=len(gain), **shaped)


@dataclass(frozen=True, eq=False)
class _Integers:
    """Weights (O, ...), zero points, scales and biases (O,) of a convolution."""

    weight: NDArray[np.int8]
    zero: NDArray[np.int64]
    scale: NDArray[np.float64]
    bias: NDArray[np.int32]


def _shaped(integers: _Integers, kernel: tuple[int, ...], clamp: Clamp) -> dict[str, Any]:
    """The arrays that a ``Conv`` has."""
    weight, outs = integers.weight, len(integers.bias)
    return {
        "weight": weight.reshape(*weight.shape[:2], *kernel),
        "weight_zero": integers.zero.astype(np.int16),
        "weight_scale": integers.scale.astype(np.float32),
        "bias": integers.bias,
        "lo": np.array(np.broadcast_to(clamp[0], (outs,))),
        "hi": np.array(np.broadcast_to(clamp[1], (outs,))),
    }


def _weight(layer: QuantLayer) -> tuple[NDArray[np.int8], NDArray[np.int64], int]:
    """int8 weights, zero points (O,), and the bits that hold the distinct weights."""
    assert layer.codes is not None
    assert layer.qparams is not None
    levels, zero = layer.qparams.levels, _per_channel(layer, "zero")
    if not np.array_equal(zero, np.rint(zero)):
        raise Unsupported(
            f"layer {layer.info.name!r}: a weight zero point that is not a whole number"
        )
    codes, zeros = layer.codes.cpu().numpy().astype(np.int64), zero.astype(np.int64)
    bits = max(2, math.ceil(math.log2(len(levels))))
    # centred, so that the codes fit and stay narrow
    if zeros.any() or levels[-1] > np.iinfo(np.int8).max:
        middle = 1 << (bits - 1)
        codes, zeros = codes - middle, zeros - middle
    if codes.min() < np.iinfo(np.int8).min or codes.max() > np.iinfo(np.int8).max:
        raise Unsupported(
            f"layer {layer.info.name!r}: weights of {levels[0]}..{levels[-1]} steps do not fit "
            "int8; kernels take additive powers of two up to 6 bits and powers of two up to 4"
        )
    return codes.astype(np.int8), zeros, bits


def _per_channel(layer: QuantLayer, name: str) -> NDArray[Any]:
    assert layer.qparams is not None
    value = getattr(layer.qparams, name).detach().cpu().numpy().reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(value, (layer.info.shape[0],)))


def _integers(
    weight: NDArray[np.int8],
    zero: NDArray[np.int64],
    scale: NDArray[np.float64],
    bias: NDArray[np.float64],
    s_x: float,
    s_y: float,
) -> _Integers:
    """The bias in units of the products, with room for it, see ``_room``."""
    weight, scale = _room(np.abs(bias), weight, zero, scale, s_x, s_y)
    return _Integers(weight, zero, scale, np.rint(bias / (s_x * scale)).astype(np.int32))


def _room(
    bias: NDArray[np.float64],
    weight: NDArray[np.int8],
    zero: NDArray[np.int64],
    scale: NDArray[np.float64],
    s_x: float,
    s_y: float,
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Coarser weights for channels whose bias would not fit int32, or whose ratio float32.

    Such channels are dead: their weights, hence their scale, are next to nothing beside the bias or
    beside a step of the output. The scale doubles until both fit, and the weights are rounded to
    it; what that loses is below 2^-30 of the bias, or 2^-95 of a step, for each product.
    """
    unit = s_x * scale
    # above 1: it does not fit
    excess = np.maximum.reduce([bias / (unit * BIAS_ROOM), 2 * TINY * s_y / unit])
    doublings = np.ceil(np.log2(np.maximum(excess, 1))).astype(int)
    if not doublings.any():
        return weight, scale
    shape = (-1,) + (1,) * (weight.ndim - 1)
    values = (weight - zero.reshape(shape)) * 2.0 ** -doublings.reshape(shape)
    coarse = np.rint(values) + zero.reshape(shape)
    dead = (doublings > 0).reshape(shape)
    return np.where(dead, coarse, weight).astype(np.int8), scale * 2.0**doublings
