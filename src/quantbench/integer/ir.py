"""Programs as values; ``quantbench.integer`` says what their operators compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Format:
    """How a tensor's codes are read: ``(q - zero) * scale``, q in lo..hi; ``scale`` is a float32 value."""

    scale: float
    zero: int
    lo: int = 0
    hi: int = 255

    def __post_init__(self) -> None:
        """Round the scale to float32 once, here, so that no executor has to."""
        object.__setattr__(self, "scale", float(np.float32(self.scale)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """One operator: ``name`` is the module it came from, ``out`` the format of ``output`` (None: float32)."""

    name: str
    inputs: tuple[str, ...]
    output: str
    out: Format | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Op):
    """Convolution, depthwise and linear layer, with its activation function and, with two inputs, a residual add.

    Attributes:
        weight: int8 (O, C / groups, kh, kw); ``weight_bits`` (2..8) says how many bits hold its
            distinct values.
        weight_zero: int16 (O,).
        weight_scale: float32 (O,).
        bias: int32 (O,), in units of ``s_x * weight_scale``.
        lo: uint8 (O,), the lower clamp; ``hi`` the upper one. Not used for logits.
        pads: top, left, bottom, right.

    """

    weight: NDArray[np.int8]
    weight_zero: NDArray[np.int16]
    weight_scale: NDArray[np.float32]
    bias: NDArray[np.int32]
    lo: Codes
    hi: Codes
    weight_bits: int = 8
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Op):
    """Sum of two tensors of the same shape, clamped to ``lo``..``hi`` (a following ReLU)."""

    lo: int
    hi: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Op):
    """Channels of all inputs, one after the other, each brought to the output's format."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Op):
    """Maximum over windows; ``pads`` (top, left, bottom, right) cover what ceil-mode windows reach beyond the edge."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(MaxPool):
    """Mean over windows; a global mean has the kernel (H, W)."""

    count_padding: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class LRN(Op):
    """Local response normalization across channels (Krizhevsky et al. 2012, section 3.3), with beta = 3/4."""

    size: int
    alpha: float
    k: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Lut(Op):
    """A function of one variable as ``table``: uint8 (256,), all inside the output's lo..hi."""

    table: Codes


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Op):
    """Every ``stride``-th row and column, then zeros; ``pads``: front and back channels, top, left, bottom, right."""

    pads: tuple[int, int, int, int, int, int]
    stride: tuple[int, int] = (1, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Op):
    """(C, H, W) to (C*H*W, 1, 1)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dequantize(Op):
    """Codes to float32 values; ``out`` is None."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Island(Op):
    """What stays in floats: ``function`` maps float32 torch tensors (N, C, H, W) to one such tensor of ``shape``.

    ``reason`` says why there is no integer form. Such a program runs, but cannot be saved.
    """

    function: Callable[..., Any] = field(repr=False)
    shape: Shape
    reason: str


@dataclass(frozen=True, eq=False)
class Program:
    """An integer network for one image size: operators in an order in which each runs after its inputs.

    Attributes:
        input: format of the network input, the tensor called ``input``.
        shape: (C, H, W) of one image.
        ops: the operators; the last one's output is the network's.

    """

    input: Format
    shape: Shape
    ops: tuple[Op, ...]

    @property
    def output(self) -> str:
        """Name of the network's output tensor."""
        return self.ops[-1].output

    @property
    def formats(self) -> Mapping[str, Format | None]:
        """Format of every tensor by name; None for float32."""
        return {"input": self.input, **{op.output: op.out for op in self.ops}}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape (C, H, W) of every tensor by name."""
        known = {"input": self.shape}
        for op in self.ops:
            known[op.output] = output_shape(op, [known[i] for i in op.inputs])
        return known


def conv_multiplier(
    s_x: float, weight_scale: NDArray[np.float32], s_y: float | None
) -> NDArray[np.float32]:
    """M (O,) of a Conv; ``s_y`` None for logits."""
    m = np.float64(s_x) * weight_scale.astype(np.float64)
    return (m if s_y is None else m / np.float64(s_y)).astype(np.float32)


def ratio(s_x: float, s_y: float, count: int = 1) -> np.float32:
    """``f32(s_x / (s_y * count))``, the multiplier of Add, Concat, AvgPool and of a residual."""
    return np.float32(np.float64(s_x) / (np.float64(s_y) * count))


def output_shape(op: Op, shapes: list[Shape]) -> Shape:  # noqa: PLR0911 - a case an operator
    """Shape of an operator's output from those of its inputs."""
    c, h, w = shapes[0]
    match op:
        case Conv():
            kh, kw = (
                (k - 1) * d + 1 for k, d in zip(op.weight.shape[2:], op.dilation, strict=True)
            )
            return op.weight.shape[0], *_window((h, w), (kh, kw), op.stride, op.pads)
        case MaxPool():
            return c, *_window((h, w), op.kernel, op.stride, op.pads)
        case Concat():
            return sum(s[0] for s in shapes), h, w
        case Pad():
            front, back, top, left, bottom, right = op.pads
            h, w = -(-h // op.stride[0]), -(-w // op.stride[1])
            return front + c + back, top + h + bottom, left + w + right
        case Flatten():
            return c * h * w, 1, 1
        case Island():
            return op.shape
    return c, h, w


def _window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> tuple[int, int]:
    top, left, bottom, right = pads
    return (size[0] + top + bottom - kernel[0]) // stride[0] + 1, (
        size[1] + left + right - kernel[1]
    ) // stride[1] + 1
