"""Programs operator by operator, each on a tensor made before; how to draw one of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Format,
    Island,
    Lut,
    MaxPool,
    Mul,
    Op,
    Pad,
    Program,
    Rearrange,
    Resize,
    Select,
    Shape,
)
from quantbench.integer.testing.draws import Draw, random_conv, random_format

if TYPE_CHECKING:
    from torch import Tensor


class Builder:
    """Appends one operator after another, each on a tensor made before."""

    def __init__(self, draw: Draw, program: Program, widest: int) -> None:
        self.draw, self.program, self.widest = draw, program, widest
        self.ops: list[Op] = []
        self.formats: dict[str, Format] = {"input": program.input}
        self.shapes: dict[str, Shape] = {"input": program.shape}
        self.last = "input"

    def _push(self, op: Op) -> None:
        self.ops.append(op)
        self.shapes[op.output] = op.output_shape([self.shapes[i] for i in op.inputs])
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
        shape = (outs, c // groups, kh, kw)
        self._push(self._layer(shape, groups, pads, stride, dilation, logits=logits))

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
        x, name = self.last, self._name()
        op = random_conv(self.draw, x, self.formats[x], name, shape, logits=logits)
        return replace(op, groups=groups, pads=pads, stride=stride, dilation=dilation)

    def depthwise(self) -> None:
        """One filter a channel."""
        self.conv(groups=self.shapes[self.last][0])

    def add(self) -> None:
        """The last tensor and any of its shape."""
        shape = self.shapes[self.last]
        same = [n for n, s in self.shapes.items() if s == shape and n in self.formats]
        y = random_format(self.draw, 8, near=self.formats[self.last].scale)
        lo, hi = max(y.lo, y.zero) if self.draw(0, 1) else y.lo, y.hi
        inputs, name = (self.last, same[self.draw(0, len(same) - 1)]), self._name()
        self._push(Add(name="add", inputs=inputs, output=name, out=y, lo=min(lo, hi), hi=hi))

    def mul(self) -> None:
        """The last tensor and any whose sizes are its own, or 1, in either order.

        Often that is a gate made for it: one value a channel, or one channel.
        """
        first, shape, gate = self.last, self.shapes[self.last], self.draw(0, 3)
        if gate == 0:
            self.avg_pool(shape[1:])
        elif gate == 1:
            self.select(1)
        fits = [self.last] if gate < 2 else [n for n in self.formats if self._fits(n, shape)]
        inputs, name = [first, fits[self.draw(0, len(fits) - 1)]], self._name()
        if self.draw(0, 1):
            inputs.reverse()
        y = random_format(self.draw, 8, near=self.formats[first].scale)
        self._push(Mul(name="mul", inputs=tuple(inputs), output=name, out=y))

    def _fits(self, name: str, shape: Shape) -> bool:
        """Whether a tensor can be multiplied by one of a shape."""
        sizes = zip(self.shapes[name], shape, strict=True)
        return all(a == b or 1 in (a, b) for a, b in sizes)

    def concat(self) -> None:
        """The last tensor and some of its size."""
        same = [n for n, s in self.shapes.items() if s[1:] == self.shapes[self.last][1:]]
        inputs = (self.last, *same[: self.draw(0, 2)])
        near = self.formats[self.last]
        y = near if self.draw(0, 1) else random_format(self.draw, 8, near=near.scale)
        self._push(Concat(name="cat", inputs=inputs, output=self._name(), out=y))

    def max_pool(self) -> None:
        """Windows with padding on any side."""
        window = self._window()
        f = self.formats[self.last]
        self._push(MaxPool(name="max", inputs=(self.last,), output=self._name(), out=f, **window))

    def avg_pool(self, over: tuple[int, int] | None = None) -> None:
        """The same, counting the padding or not; or ``over`` the whole."""
        given: dict[str, Any] = {"kernel": over, "stride": over, "pads": (0, 0, 0, 0)}
        window = self._window() if over is None else given
        y = random_format(self.draw, 8, near=self.formats[self.last].scale)
        window["count_padding"] = bool(self.draw(0, 1))
        self._push(AvgPool(name="avg", inputs=(self.last,), output=self._name(), out=y, **window))

    def lrn(self) -> None:
        """Across channels."""
        y = random_format(self.draw, 8, near=self.formats[self.last].scale)
        size, alpha, k = self.draw(1, 6), self.draw(1, 100) * 1e-4, self.draw(1, 4) / 2
        numbers: dict[str, Any] = {"size": size, "alpha": alpha, "k": k}
        self._push(LRN(name="lrn", inputs=(self.last,), output=self._name(), out=y, **numbers))

    def lut(self) -> None:
        """Any table."""
        y = random_format(self.draw, 8)
        rng = np.random.default_rng(self.draw(0, 1 << 30))
        table = rng.integers(y.lo, y.hi + 1, 256).astype(np.uint8)
        self._push(Lut(name="lut", inputs=(self.last,), output=self._name(), out=y, table=table))

    def pad(self) -> None:
        """Subsampling and zeros around."""
        f, inputs = self.formats[self.last], (self.last,)
        front, back, top, left, bottom, right = (self.draw(0, 2) for _ in range(6))
        pads, stride = (front, back, top, left, bottom, right), (self.draw(1, 2), self.draw(1, 2))
        op = Pad(name="pad", inputs=inputs, output=self._name(), out=f, pads=pads, stride=stride)
        self._push(op)

    def select(self, count: int = 0) -> None:
        """Some channels in any order, one perhaps twice; or ``count`` of them."""
        f, (c, _, _) = self.formats[self.last], self.shapes[self.last]
        chosen = tuple(self.draw(0, c - 1) for _ in range(count or self.draw(1, min(c + 2, 24))))
        inputs, name = (self.last,), self._name()
        self._push(Select(name="select", inputs=inputs, output=name, out=f, channels=chosen))

    def rearrange(self) -> None:
        """Any order of the three directions, seen in any of them; one perhaps in two parts."""
        sizes = list(self.shapes[self.last])
        if self.draw(0, 1) and sizes[0] % 2 == 0:
            sizes = [2, sizes[0] // 2, *sizes[1:]]
        axes, left = [], list(range(len(sizes)))
        while left:
            axes.append(left.pop(self.draw(0, len(left) - 1)))
        c, *others = (sizes[a] for a in axes)
        shape = (c, others[0], math.prod(others[1:]))
        f, inputs, name = self.formats[self.last], (self.last,), self._name()
        given: dict[str, Any] = {"split": tuple(sizes), "axes": tuple(axes), "into": shape}
        self._push(Rearrange(name="order", inputs=inputs, output=name, out=f, **given))

    def resize(self, *, values: bool = False) -> None:
        """To a smaller or a larger size; or to values, behind which nothing can stand."""
        near, size = self.formats[self.last], (self.draw(1, 14), self.draw(1, 14))
        y = None if values else random_format(self.draw, 8, near=near.scale)
        corners, inputs, name = bool(self.draw(0, 1)), (self.last,), self._name()
        op = Resize(
            name="resize", inputs=inputs, output=name, out=y, size=size, align_corners=corners
        )
        self._push(op)

    def flatten(self) -> None:
        """To a vector."""
        f = self.formats[self.last]
        self._push(Flatten(name="flat", inputs=(self.last,), output=self._name(), out=f))

    def dequantize(self) -> None:
        """Floats, behind which nothing can stand."""
        self._push(Dequantize(name="real", inputs=(self.last,), output=self._name(), out=None))

    def island(self) -> None:
        """A function that torch computes."""
        self._push(
            Island(
                name="island",
                inputs=(self.last,),
                output=self._name(),
                out=random_format(self.draw, 8),
                function=_half,
                shape=self.shapes[self.last],
                reason="it is to be foreign",
            )
        )

    def _window(self) -> dict[str, Any]:
        """Kernel, stride and pads of a pool."""
        draw, (_, h, w) = self.draw, self.shapes[self.last]
        kh, kw = min(draw(1, 4), h), min(draw(1, 4), w)
        pads = draw(0, kh - 1), draw(0, kw - 1), draw(0, kh - 1), draw(0, kw - 1)
        return {"kernel": (kh, kw), "stride": (draw(1, 3), draw(1, 3)), "pads": pads}


def _half(x: Tensor) -> Tensor:
    return x / 2


# How to make each operator; where there are several ways, or one twice, it is made more often.
MAKES: dict[type[Op], tuple[Callable[[Builder], None], ...]] = {
    Conv: (Builder.conv, Builder.conv, Builder.depthwise, Builder.residual, Builder.residual),
    Add: (Builder.add,),
    Mul: (Builder.mul,),
    Concat: (Builder.concat,),
    MaxPool: (Builder.max_pool,),
    AvgPool: (Builder.avg_pool,),
    LRN: (Builder.lrn,),
    Lut: (Builder.lut,),
    Pad: (Builder.pad,),
    Select: (Builder.select,),
    Rearrange: (Builder.rearrange,),
    Resize: (Builder.resize,),
    Flatten: (Builder.flatten,),
    Dequantize: (Builder.dequantize,),
    Island: (Builder.island,),
}

# not in the middle of random programs: what ends them, and what not every executor runs
ENDS = (Flatten, Dequantize, Island)
