"""Pools, padding and bounds in LiteRT."""

from __future__ import annotations

from typing import Any

import ai_edge_litert.schema_py_generated as tfl
import numpy as np

from quantbench.errors import Unsupported
from quantbench.integer.backends.litert_graph import LiteGraph
from quantbench.integer.ir import AvgPool, Format, MaxPool, Pad, Program

SAME, VALID = 0, 1


class WindowGraph(LiteGraph):
    """A graph that knows a program's formats and shapes."""

    def __init__(self, program: Program, batch: int) -> None:
        super().__init__(batch)
        self.formats, self.shapes = program.formats, program.shapes

    def pool(self, op: MaxPool, x: int, f: Format) -> int:
        """Maximum or mean over windows."""
        shape, out = self.shapes[op.inputs[0]], self.shapes[op.output]
        y = self.image(out, op.out)
        if isinstance(op, AvgPool) and op.kernel == shape[1:]:
            rows = self.constant(np.array([1, 2], np.int32))
            mean_ = self.op("MEAN", [x, rows], y, tfl.ReducerOptionsT(keepDims=True))
            return self.bounded(mean_, op.output, known(op.out))
        mean = isinstance(op, AvgPool)
        if isinstance(op, AvgPool) and any(op.pads):
            if not op.count_padding:
                raise Unsupported(
                    f"{op.name}: LiteRT has no average pool that leaves out padding as here"
                )
            x, padding = self.zeros(x, shape, f, (0, 0, *op.pads), None), VALID
        else:
            x, padding = self.padded(x, op.inputs[0], f, op.kernel, op, fill=0)
        options = tfl.Pool2DOptionsT(padding=padding, strideH=op.stride[0], strideW=op.stride[1],
                                     filterHeight=op.kernel[0], filterWidth=op.kernel[1])  # fmt: skip
        pooled = self.op(
            "AVERAGE_POOL_2D" if mean else "MAX_POOL_2D", [x], self.image(out, f), options
        )
        if not mean or op.out == f:
            return pooled
        return self.bounded(
            self.op("QUANTIZE", [pooled], y, tfl.QuantizeOptionsT()), op.output, known(op.out)
        )

    def padded(
        self, x: int, name: str, f: Format, kernel: Any, op: Any, fill: int | None = None
    ) -> tuple[int, int]:
        """The input of a window operator and LiteRT's word for its padding; written out where there is no word."""
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
            x = self.op(
                "STRIDED_SLICE", inputs, self.image((c, h, w), f), tfl.StridedSliceOptionsT()
            )
        return self.zeros(x, (c, h, w), f, op.pads, None) if any(op.pads) else x

    def zeros(
        self, x: int, shape: tuple[int, int, int], f: Format, pads: Any, fill: int | None
    ) -> int:
        """Padding by the zero point, or by a code."""
        front, back, top, left, bottom, right = pads
        amounts = self.constant(
            np.array([[0, 0], [top, bottom], [left, right], [front, back]], np.int32)
        )
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
            x = self.op(
                kind, [x, end], self.image(self.shapes[name], y), tfl.MaximumMinimumOptionsT()
            )
        return x

    def reshape(self, x: int, y: int) -> int:
        """A tensor in another's shape."""
        shape = self.constant(np.array(self.tensors[y].shape, np.int32))
        return self.op(
            "RESHAPE", [x, shape], y, tfl.ReshapeOptionsT(newShape=self.tensors[y].shape)
        )


def known(f: Format | None) -> Format:
    """A format that a tensor of codes has."""
    assert f is not None
    return f
