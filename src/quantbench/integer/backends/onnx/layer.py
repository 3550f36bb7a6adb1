"""Convolutions and linear layers as ONNX."""

from __future__ import annotations

import numpy as np

from quantbench.errors import Unsupported
from quantbench.integer.backends.onnx.graph import CodeGraph
from quantbench.integer.ir import Conv, Format, Op, Program
from quantbench.integer.scales import known, split_format

_INT4 = range(-8, 8)


class LayerGraph(CodeGraph):
    """A graph that knows a program's formats and shapes, and adds its layers.

    The arguments are those of ``export``.
    """

    def __init__(self, program: Program, *, int4: bool, split_residuals: bool) -> None:
        super().__init__()
        self.int4, self.split = int4, split_residuals
        self.formats, self.shapes = program.formats, program.shapes
        self.last = "input"  # the tensor made last

    def conv(self, op: Conv) -> None:
        """A layer with its residual add."""
        y, linear = op.out, self._linear(op)
        t = self._sums(op, linear=linear)
        if y is None:
            self.last = t
        elif len(op.inputs) > 1:
            if self.split:
                t = self._split(t, op, y, linear=linear)
            elif linear:
                t = self._map(t, op)
            t = self.node("Add", [t, self.real(op.inputs[1])])
            self.quantize(t, y, op.output, (op.lo, op.hi))
        elif linear:
            codes = self._map(self.quantize(t, y, f"{op.output}.vector"), op)
            self.clip(codes, (op.lo, op.hi), op.output)
        else:
            self.quantize(t, y, op.output, (op.lo, op.hi))

    def _linear(self, op: Conv) -> bool:
        """Whether a layer is a matrix product, a Gemm, which runtimes have better kernels for."""
        sizes = self.shapes[op.inputs[0]][1:], op.weight.shape[2:]
        return sizes == ((1, 1), (1, 1)) and op.groups == 1 and not any(op.pads)

    def _sums(self, op: Conv, *, linear: bool) -> str:
        """Accumulators as floats, (N, O) of a linear layer."""
        x = op.inputs[0]
        f = known(self.formats[x])
        weight = self._weight(op, linear=linear)
        bias_scale = np.float32(f.scale) * op.weight_scale
        bias = self.dequantized(f"{op.output}.bias", op.bias, bias_scale, axis=0)
        if linear:
            vector = self.ints(f"{op.output}.flat", [-1, self.shapes[x][0]])
            flat = self.node("Reshape", [x, vector])
            return self.node("Gemm", [self.dequantize(flat, f), weight, bias])
        return self.node(
            "Conv",
            [self.real(x), weight, bias],
            strides=list(op.stride),
            pads=list(op.pads),
            dilations=list(op.dilation),
            group=op.groups,
            kernel_shape=list(op.weight.shape[2:]),
        )

    def _split(self, t: str, op: Conv, y: Format, *, linear: bool) -> str:
        f = split_format(y, known(self.formats[op.inputs[1]]))
        codes = self.quantize(t, f, f"{op.output}.branch")
        return self.dequantize(self._map(codes, op) if linear else codes, f)

    def _map(self, vector: str, op: Op) -> str:
        """(N, K) as (N, K, 1, 1)."""
        shape = self.ints(f"{op.output}.map", [-1, *self.shapes[op.output]])
        return self.node("Reshape", [vector, shape])

    def _weight(self, op: Conv, *, linear: bool) -> str:
        """Weights without zero points where their type holds them so, else with."""
        v = op.weight.astype(np.int64) - op.weight_zero[:, None, None, None]
        codes, zeros = v, np.zeros(len(v), np.int64)
        narrow = self.int4 and op.weight.min() in _INT4 and op.weight.max() in _INT4
        low, high = (-8, 7) if narrow else (-128, 127)
        if v.min() < low or v.max() > high:
            codes, zeros = op.weight.astype(np.int64), op.weight_zero.astype(np.int64)
            if zeros.min() < low or zeros.max() > high:
                found = f"weight zero points {zeros.min()}..{zeros.max()}"
                raise Unsupported(f"{op.name}: {found} do not fit the weights' type")
        if linear:
            codes = codes[:, :, 0, 0].T
        stored = codes.astype(np.int8), op.weight_scale, int(linear), zeros.astype(np.int8)
        return self.dequantized(f"{op.output}.weight", *stored, narrow=narrow)

    def real(self, name: str) -> str:
        """A tensor of codes behind a DequantizeLinear of its own, as fusing runtimes want it."""
        return self.dequantize(name, known(self.formats[name]))
