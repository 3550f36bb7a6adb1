"""Programs as values; ``quantbench.integer`` says what their operators compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Format:
    """How codes q in lo..hi are read: ``(q - zero) * scale``; ``scale`` is a float32 value."""

    scale: float
    zero: int
    lo: int = 0
    hi: int = 255

    def __post_init__(self) -> None:
        """Round the scale to float32 once, here, so that no executor has to."""
        object.__setattr__(self, "scale", float(np.float32(self.scale)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """One operator.

    Attributes:
        name: of the module it came from.
        inputs: names of tensors that earlier operators make, or ``input``.
        output: name of the tensor that it makes.
        out: format of the output; None for float32.
        keeps_format: whether the output's format must be the input's.

    """

    keeps_format: ClassVar[bool] = False

    name: str
    inputs: tuple[str, ...]
    output: str
    out: Format | None

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """Shape of the output from those of the inputs; where nothing else is said, the same."""
        return inputs[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Op):
    """Convolution, depthwise or linear layer, with its activation function.

    With two inputs it adds the second, a residual, before it rounds.

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

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """(outputs, OH, OW)."""
        taps = zip(self.weight.shape[2:], self.dilation, strict=True)
        kh, kw = ((k - 1) * d + 1 for k, d in taps)  # what a dilated window spans
        return self.weight.shape[0], *_positions(inputs[0], (kh, kw), self.stride, self.pads)


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Op):
    """Sum of two tensors of the same shape, clamped to ``lo``..``hi`` (a following ReLU)."""

    lo: int
    hi: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Op):
    """Product of two tensors; along a size of 1 one has the same value for all of the other's."""

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """The larger size of each direction."""
        c, h, w = map(max, *inputs)
        return c, h, w


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Op):
    """Channels of all inputs, one after the other, each brought to the output's format."""

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """The sum of the channels."""
        return sum(s[0] for s in inputs), *inputs[0][1:]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Op):
    """What pools have in common.

    ``pads`` (top, left, bottom, right) cover what ceil-mode windows reach beyond the edge too.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """One value a window."""
        return inputs[0][0], *_positions(inputs[0], self.kernel, self.stride, self.pads)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Pool):
    """Maximum over windows."""

    keeps_format = True


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(Pool):
    """Mean over windows; a global mean has the kernel (H, W)."""

    count_padding: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class LRN(Op):
    """Local response normalization across channels, with beta = 3/4.

    Krizhevsky et al. 2012, section 3.3.
    """

    size: int
    alpha: float
    k: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Lut(Op):
    """A function of one variable as ``table``: uint8 (256,), all inside the output's lo..hi."""

    table: Codes


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Op):
    """Every ``stride``-th row and column, then zeros around.

    ``pads``: front and back channels, top, left, bottom, right.
    """

    keeps_format = True

    pads: tuple[int, int, int, int, int, int]
    stride: tuple[int, int] = (1, 1)

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """What is left of the input, and the padding."""
        (c, h, w), (front, back, top, left, bottom, right) = inputs[0], self.pads
        rows, columns = -(-h // self.stride[0]), -(-w // self.stride[1])
        return front + c + back, top + rows + bottom, left + columns + right


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Op):
    """Channels chosen by number, in any order: a half of them, or groups shuffled."""

    keeps_format = True

    channels: tuple[int, ...]

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """As many channels as were chosen."""
        return len(self.channels), *inputs[0][1:]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rearrange(Op):
    """The same values in another order: a change of shape, of the order of directions, or both.

    Attributes:
        split: sizes in which the input's values are seen, the last one the fastest.
        axes: the order in which these directions come.
        into: (C, H, W) in which the result is seen.

    """

    keeps_format = True

    split: tuple[int, ...]
    axes: tuple[int, ...]
    into: Shape

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it is told
        """What it was told."""
        return self.into


@dataclass(frozen=True, eq=False, kw_only=True)
class Resize(Op):
    """Bilinear interpolation; ``out`` may be None, for values behind which nothing stands.

    Attributes:
        size: rows and columns of the output.
        align_corners: the corners of input and output are the same points; otherwise their edges.

    """

    size: tuple[int, int]
    align_corners: bool

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """As many channels, of the given size."""
        return inputs[0][0], *self.size


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Op):
    """(C, H, W) to (C*H*W, 1, 1)."""

    keeps_format = True

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        """A vector."""
        return math.prod(inputs[0]), 1, 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Dequantize(Op):
    """Codes to float32 values; ``out`` is None."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Island(Op):
    """What stays in floats. Such a program runs, but cannot be saved by itself.

    It is code: the quantized network is saved, and lowered again where it is loaded.

    Attributes:
        function: maps float32 torch tensors (N, C, H, W) to one such tensor.
        shape: (C, H, W) of its result.
        reason: why there is no integer form.

    """

    function: Callable[..., Any] = field(repr=False)
    shape: Shape
    reason: str

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it is told
        """What it was told."""
        return self.shape


# Every operator there is; ``quantbench.integer.testing.coverage`` lists who must know them.
OPERATORS: tuple[type[Op], ...] = (
    Conv,
    Add,
    Mul,
    Concat,
    MaxPool,
    AvgPool,
    LRN,
    Lut,
    Pad,
    Select,
    Rearrange,
    Resize,
    Flatten,
    Dequantize,
    Island,
)


@dataclass(frozen=True, eq=False)
class Program:
    """An integer network for one image size.

    Attributes:
        input: format of the network input, the tensor called ``input``.
        shape: (C, H, W) of one image.
        ops: the operators, each behind those that make its inputs; the last one's output is the
            network's.

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
            known[op.output] = op.output_shape([known[i] for i in op.inputs])
        return known


def _positions(
    shape: Shape,
    window: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> tuple[int, int]:
    """How many windows there are, down and across."""
    _, h, w = shape
    top, left, bottom, right = pads
    down, across = h + top + bottom - window[0], w + left + right - window[1]
    return down // stride[0] + 1, across // stride[1] + 1
