"""Pools, padding and bounds in LiteRT."""

from __future__ import annotations

from typing import Any

import ai_edge_litert.schema_py_generated as tfl
import numpy as np

from quantbench.errors import Unsupported
from quantbench.integer.backends.litert.graph import LiteGraph
from quantbench.integer.ir import AvgPool, Format, MaxPool, Pad, Pool, Program, Shape
from quantbench.integer.scales import known

SAME, VALID = 0, 1


class WindowGraph(LiteGraph):
    """A graph that knows a program's formats and shapes."""

    def __init__(self, program: Program, batch: int) -> None:
        super().__init__(batch)
        self.formats, self.shapes = program.formats, program.shapes

    def max_pool(self, op: MaxPool, x: int, f: Format) -> int:
        """Maximum over windows."""
        x, padding = self.padded(x, op.inputs[0], f, op.kernel, op, fill=0)
        return self._pool("MAX_POOL_2D", op, x, f, padding)

    def avg_pool(self, op: AvgPool, x: int, f: Format) -> int:
        """Mean over windows, in the input's format, then brought to the output's."""
        shape, out = self.shapes[op.inputs[0]], known(op.out)
        y = self.image(self.shapes[op.output], out)
        if op.kernel == shape[1:]:
            rows = self.constant(np.array([1, 2], np.int32))
            mean = self.op("MEAN", [x, rows], y, tfl.ReducerOptionsT(keepDims=True))
            return self.bounded(mean, op.output, out)
        if any(op.pads) and not op.count_padding:
            raise Unsupported(
                f"{op.name}: LiteRT has no average pool that leaves out padding as here"
            )
        if any(op.pads):
            x = self.zeros(x, shape, f, (0, 0, *op.pads), None)
        pooled = self._pool("AVERAGE_POOL_2D", op, x, f, VALID)
        if out == f:
            return pooled
        codes = self.op("QUANTIZE", [pooled], y, tfl.QuantizeOptionsT())
        return self.bounded(codes, op.output, out)

    def _pool(self, name: str, op: Pool, x: int, f: Format, padding: int) -> int:
        options = tfl.Pool2DOptionsT(
            padding=padding,
            strideH=op.stride[0],
            strideW=op.stride[1],
            filterHeight=op.kernel[0],
            filterWidth=op.kernel[1],
        )
        return self.op(name, [x], self.image(self.shapes[op.output], f), options)

    def padded(
        self, x: int, name: str, f: Format, kernel: Any, op: Any, fill: int | None = None
    ) -> tuple[int, int]:
        """The input of a window operator, and LiteRT's word for its padding.

        Where there is no word the padding is written out. SAME is defined by the size of the
        output, ceil(n / stride): what is missing, an odd one more at the end.
        """
        _, h, w = self.shapes[name]
        if not any(op.pads):
            return x, VALID
        dilation = getattr(op, "dilation", (1, 1))
        same = []
        for n, k, s, d in zip((h, w), kernel, op.stride, dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            same.append((total // 2, total - total // 2))
        if op.pads == (same[0][0], same[1][0], same[0][1], same[1][1]):
            return x, SAME
        return self.zeros(x, self.shapes[name], f, (0, 0, *op.pads), fill), VALID

    def pad(self, op: Pad, x: int, f: Format) -> int:
        """Subsampling and padding."""
        c, h, w = self.shapes[op.inputs[0]]
        if op.stride != (1, 1):
            ends = (np.zeros(4), np.array([self.batch, h, w, c]), np.array([1, *op.stride, 1]))
            h, w = -(-h // op.stride[0]), -(-w // op.stride[1])
            inputs = [x, *(self.constant(e.astype(np.int32)) for e in ends)]
            kept = self.image((c, h, w), f)
            x = self.op("STRIDED_SLICE", inputs, kept, tfl.StridedSliceOptionsT())
        return self.zeros(x, (c, h, w), f, op.pads, None) if any(op.pads) else x

    def zeros(self, x: int, shape: Shape, f: Format, pads: Any, fill: int | None) -> int:
        """Padding by the zero point, or by a code."""
        front, back, top, left, bottom, right = pads
        around = [[0, 0], [top, bottom], [left, right], [front, back]]
        amounts = self.constant(np.array(around, np.int32))
        c, h, w = shape
        y = self.image((front + c + back, top + h + bottom, left + w + right), f)
        code = self.constant_codes(np.array([f.zero if fill is None else fill], np.uint8), f)
        return self.op("PADV2", [x, amounts, code], y, tfl.PadV2OptionsT())

    def bounded(self, x: int, name: str, y: Format) -> int:
        """A tensor kept inside its format."""
        return x if self.free(y.lo, y.hi) else self.clip(x, name, y, y.lo, y.hi)

    def free(self, lo: Any, hi: Any) -> bool:
        """Whether bounds are what int8 has by itself."""
        return bool(np.all(np.equal(lo, 0)) and np.all(np.equal(hi, 255)))

    def clip(self, x: int, name: str, y: Format, lo: Any, hi: Any) -> int:
        """A tensor kept between bounds, numbers or arrays (C,)."""
        for kind, bound in (("MAXIMUM", lo), ("MINIMUM", hi)):
            end = self.constant_codes(np.asarray(bound, np.uint8).reshape(1, 1, 1, -1), y)
            kept = self.image(self.shapes[name], y)
            x = self.op(kind, [x, end], kept, tfl.MaximumMinimumOptionsT())
        return x

    def reshape(self, x: int, y: int) -> int:
        """A tensor in another's shape."""
        sizes = self.tensors[y].shape
        shape = self.constant(np.array(sizes, np.int32))
        return self.op("RESHAPE", [x, shape], y, tfl.ReshapeOptionsT(newShape=sizes))
