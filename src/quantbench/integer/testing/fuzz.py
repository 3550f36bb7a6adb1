"""Random programs that strain every rule of the definition: what executors are compared on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Codes,
    Concat,
    Conv,
    Flatten,
    Format,
    Lut,
    MaxPool,
    Op,
    Pad,
    Program,
    Shape,
    output_shape,
)
from quantbench.integer.rules import accumulator_bound

# a whole number from lo to hi; hypothesis shrinks it, a generator draws it
Draw = Callable[[int, int], int]


def seeded(seed: int) -> Draw:
    """Draws without hypothesis."""
    rng = np.random.default_rng(seed)
    return lambda lo, hi: int(rng.integers(lo, hi + 1))


def codes(draw: Draw, program: Program, n: int) -> Codes:
    """Input codes (n, C, H, W): noise, or all at one end of the range."""
    lo, hi = program.input.lo, program.input.hi
    rng, shape = np.random.default_rng(draw(0, 1 << 30)), (n, *program.shape)
    match draw(0, 3):
        case 0:
            return np.full(shape, hi, np.uint8)
        case 1:
            return rng.choice(np.array([lo, hi], np.uint8), shape)
    return rng.integers(lo, hi + 1, shape).astype(np.uint8)


def any_program(draw: Draw, *, length: int = 6, size: int = 12, branching: bool = False) -> Program:
    """Up to ``length`` operators of all kinds on images of at most ``size`` pixels a side, ending in logits.

    ``branching``: operators read any earlier tensor instead of the last one, a few layers have up
    to 250 outputs, and more images have three channels.
    """
    channels = 3 if branching and draw(0, 3) == 0 else draw(1, 20)
    shape = (channels, draw(1, size), draw(1, size))
    b = _Builder(draw, Program(_format(draw, 8), shape, ()), widest=250 if branching else 24)
    layers = (b.conv, b.conv, b.depthwise, b.residual, b.residual)
    kinds = (*layers, b.add, b.concat, b.max_pool, b.avg_pool, b.lrn, b.lut, b.pad)
    for _ in range(draw(1, length)):
        if branching and draw(0, 3) == 0:
            b.last = list(b.formats)[draw(0, len(b.formats) - 1)]
        kinds[draw(0, len(kinds) - 1)]()
    b.flatten()
    b.conv(logits=True)
    return Program(b.program.input, shape, tuple(b.ops))


class _Builder:
    """Appends one operator after another, each on a tensor made before."""

    def __init__(self, draw: Draw, program: Program, widest: int) -> None:
        self.draw, self.program, self.widest = draw, program, widest
        self.ops: list[Op] = []
        self.formats: dict[str, Format] = {"input": program.input}
        self.shapes: dict[str, Shape] = {"input": program.shape}
        self.last = "input"

    def _push(self, op: Op) -> None:
        self.ops.append(op)
        self.shapes[op.output] = output_shape(op, [self.shapes[i] for i in op.inputs])
        self.last = op.output
        if op.out is not None:
            self.formats[op.output] = op.out

    def _name(self) -> str:
        return f"t{len(self.ops)}"

    def conv(self, *, logits: bool = False, groups: int = 0) -> None:
        """Dense, grouped or depthwise convolution of any geometry; or the logits, from a vector."""
        draw, (c, h, w) = self.draw, self.shapes[self.last]
        groups = groups or ([g for g in (1, 2, 3, 4, c) if c % g == 0][draw(0, 1)] if c > 1 else 1)
        dilation = (draw(1, 2), draw(1, 2))
        pads = (0, 0, 0, 0) if logits else (draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2))
        reach = (h + pads[0] + pads[2], w + pads[1] + pads[3])
        kh, kw = (min(draw(1, 5), (r - 1) // d + 1) for r, d in zip(reach, dilation, strict=True))
        most = self.widest if self.widest > 24 and draw(0, 5) == 0 else 24
        outs = groups * draw(1, max(1, most // groups))
        stride = (draw(1, 3), draw(1, 3))
        self._push(
            self._layer((outs, c // groups, kh, kw), groups, pads, stride, dilation, logits=logits)
        )

    def residual(self) -> None:
        """A convolution that keeps the shape, with the add of any tensor of that shape."""
        draw, (c, _, _) = self.draw, self.shapes[self.last]
        groups = (1, c)[draw(0, 1)]
        (kh, kw), dilation = (2 * draw(0, 2) + 1, 2 * draw(0, 1) + 1), (draw(1, 2), draw(1, 2))
        top, left = (kh - 1) * dilation[0] // 2, (kw - 1) * dilation[1] // 2
        op = self._layer((c, c // groups, kh, kw), groups, (top, left, top, left), (1, 1), dilation)
        same = [n for n, s in self.shapes.items() if s == self.shapes[self.last]]
        self._push(replace(op, inputs=(self.last, same[draw(0, len(same) - 1)])))

    def _layer(
        self,
        shape: tuple[int, int, int, int],
        groups: int,
        pads: tuple[int, int, int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        *,
        logits: bool = False,
    ) -> Conv:
        op = _conv(
            self.draw, self.last, self.formats[self.last], self._name(), shape, logits=logits
        )
        return replace(op, groups=groups, pads=pads, stride=stride, dilation=dilation)

    def depthwise(self) -> None:
        """One filter a channel."""
        self.conv(groups=self.shapes[self.last][0])

    def add(self) -> None:
        """The last tensor and any of its shape."""
        same = [
            n for n, s in self.shapes.items() if s == self.shapes[self.last] and n in self.formats
        ]
        y = _format(self.draw, 8, near=self.formats[self.last].scale)
        lo, hi = max(y.lo, y.zero) if self.draw(0, 1) else y.lo, y.hi
        inputs = (self.last, same[self.draw(0, len(same) - 1)])
        self._push(
            Add(name="add", inputs=inputs, output=self._name(), out=y, lo=min(lo, hi), hi=hi)
        )

    def concat(self) -> None:
        """The last tensor and some of its size."""
        same = [n for n, s in self.shapes.items() if s[1:] == self.shapes[self.last][1:]]
        inputs = (self.last, *same[: self.draw(0, 2)])
        near = self.formats[self.last]
        y = near if self.draw(0, 1) else _format(self.draw, 8, near=near.scale)
        self._push(Concat(name="cat", inputs=inputs, output=self._name(), out=y))

    def max_pool(self) -> None:
        """Windows with padding on any side."""
        kernel, stride, pads = self._window()
        self._push(MaxPool(name="max", inputs=(self.last,), output=self._name(), out=self.formats[self.last],
                           kernel=kernel, stride=stride, pads=pads))  # fmt: skip

    def avg_pool(self) -> None:
        """The same, counting the padding or not."""
        kernel, stride, pads = self._window()
        y = _format(self.draw, 8, near=self.formats[self.last].scale)
        self._push(AvgPool(name="avg", inputs=(self.last,), output=self._name(), out=y, kernel=kernel, stride=stride,
                           pads=pads, count_padding=bool(self.draw(0, 1))))  # fmt: skip

    def lrn(self) -> None:
        """Across channels."""
        y = _format(self.draw, 8, near=self.formats[self.last].scale)
        self._push(LRN(name="lrn", inputs=(self.last,), output=self._name(), out=y, size=self.draw(1, 6),
                       alpha=self.draw(1, 100) * 1e-4, k=self.draw(1, 4) / 2))  # fmt: skip

    def lut(self) -> None:
        """Any table."""
        y = _format(self.draw, 8)
        rng = np.random.default_rng(self.draw(0, 1 << 30))
        table = rng.integers(y.lo, y.hi + 1, 256).astype(np.uint8)
        self._push(Lut(name="lut", inputs=(self.last,), output=self._name(), out=y, table=table))

    def pad(self) -> None:
        """Subsampling and zeros around."""
        pads = tuple(self.draw(0, 2) for _ in range(6))
        stride = (self.draw(1, 2), self.draw(1, 2))
        self._push(Pad(name="pad", inputs=(self.last,), output=self._name(), out=self.formats[self.last],
                       pads=pads, stride=stride))  # type: ignore[arg-type]  # fmt: skip

    def flatten(self) -> None:
        """To a vector."""
        self._push(
            Flatten(
                name="flat", inputs=(self.last,), output=self._name(), out=self.formats[self.last]
            )
        )

    def _window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        _, h, w = self.shapes[self.last]
        kh, kw = min(self.draw(1, 4), h), min(self.draw(1, 4), w)
        pads = (
            self.draw(0, kh - 1),
            self.draw(0, kw - 1),
            self.draw(0, kh - 1),
            self.draw(0, kw - 1),
        )
        return (kh, kw), (self.draw(1, 3), self.draw(1, 3)), pads


def _format(draw: Draw, bits: int, near: float = 0.05) -> Format:
    """Codes of 2 to ``bits`` bits, any zero point, a scale around ``near``; some ranges start above 0."""
    hi = 2 ** draw(2, bits) - 1
    lo = draw(0, hi // 2) if draw(0, 3) == 0 else 0
    return Format(near * 2.0 ** (draw(-20, 20) / 8), draw(lo, hi) if draw(0, 1) else lo, lo, hi)


def _conv(
    draw: Draw, x: str, f: Format, name: str, shape: tuple[int, int, int, int], *, logits: bool
) -> Conv:
    """A convolution whose outputs mostly fall inside the output's range."""
    bits, outs = draw(2, 8), shape[0]
    rng = np.random.default_rng(draw(0, 1 << 30))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    weight = rng.integers(low, high + 1, shape)
    if draw(0, 5) == 0:
        # extreme accumulators
        weight = rng.choice([low, high], (outs, 1, 1, 1)) * np.ones(shape, int)
    zero = rng.integers(low, high + 1, outs) if draw(0, 1) else np.zeros(outs, int)
    y = _format(draw, 8)
    v = weight - zero[:, None, None, None]
    # of an accumulator
    typical = np.sqrt((v * v).sum((1, 2, 3)) + 1) * max(f.hi - f.zero, f.zero) / 2
    scale = (
        y.scale
        * (y.hi - y.lo)
        / (typical * f.scale)
        * 2.0 ** (draw(-32, 4) / 8)
        * np.exp(rng.normal(0, 0.3, outs))
    )
    lo, hi = np.full(outs, y.lo), np.full(outs, y.hi)
    if draw(0, 1):  # ReLU with a ceiling per channel
        lo[:], hi = (
            max(y.lo, y.zero),
            np.minimum(y.hi, np.maximum(y.zero, y.lo) + rng.integers(0, 256, outs)),
        )
    op = Conv(
        name=name, inputs=(x,), output=name, out=None if logits else y, weight=weight.astype(np.int8),
        weight_zero=zero.astype(np.int16), weight_scale=scale.astype(np.float32), bias=np.zeros(outs, np.int32),
        lo=lo.astype(np.uint8), hi=hi.astype(np.uint8), weight_bits=bits,
    )  # fmt: skip
    room = (1 << 31) - 1 - accumulator_bound(op, max(f.zero - f.lo, f.hi - f.zero))
    # an accumulator that just fits
    room = room if draw(0, 4) == 0 else np.minimum(room, typical.astype(np.int64))
    bias = (
        np.where(rng.random(outs) < 0.5, room, -room)
        if draw(0, 3) == 0
        else rng.integers(-room, room + 1)
    )
    return replace(op, bias=bias.astype(np.int32))
