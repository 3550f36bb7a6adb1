"""Nodes and constants of an ONNX graph over codes."""

from __future__ import annotations

from typing import Any

import ml_dtypes  # comes with onnx
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.integer.ir import Format


class CodeGraph:
    """Collects nodes and constants; every method gives the name of the tensor that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def quantize(
        self, real: str, f: Format, name: str, clamp: tuple[Any, Any] | None = None
    ) -> str:
        """Codes of a float tensor, clamped beyond what uint8 does by itself."""
        bounds = clamp if clamp is not None else (f.lo, f.hi)
        clipped = not (np.all(np.equal(bounds[0], 0)) and np.all(np.equal(bounds[1], 255)))
        codes = self.node("QuantizeLinear", [real, *self.scale(f)], output="" if clipped else name)
        return self.clip(codes, bounds, name) if clipped else codes

    def clip(self, codes: str, bounds: tuple[Any, Any], name: str) -> str:
        """Codes kept between bounds: two numbers, or two arrays (C,)."""
        lo, hi = (np.broadcast_to(np.asarray(b, np.uint8), np.shape(b)) for b in bounds)
        alike = lo.ndim == 0 or (np.ptp(lo) == 0 and np.ptp(hi) == 0)
        ends = [
            self.constant(
                f"{name}.{k}", np.array(b.flat[0]) if alike else b.reshape(-1, 1, 1).copy()
            )
            for k, b in (("lo", lo), ("hi", hi))
        ]
        if alike:
            return self.node("Clip", [codes, *ends], output=name)
        return self.node("Min", [self.node("Max", [codes, ends[0]]), ends[1]], output=name)

    def dequantize(self, codes: str, f: Format) -> str:
        """Float values of codes."""
        return self.node("DequantizeLinear", [codes, *self.scale(f)])

    def scale(self, f: Format) -> list[str]:
        """Scale and zero point."""
        scale = self.constant(f"scale:{f.scale.hex()}", np.array(f.scale, np.float32))
        return [scale, self.constant(f"zero:{f.zero}", np.array(f.zero, np.uint8))]

    def ints(self, name: str, values: list[int]) -> str:
        """A list of numbers, such as a shape."""
        return self.constant(name, np.array(values, np.int64))

    def constant(self, name: str, value: NDArray[Any], *, narrow: bool = False) -> str:
        """A constant, made once; ``narrow`` as INT4."""
        if name not in self.constants:
            stored = np.ascontiguousarray(value.astype(ml_dtypes.int4) if narrow else value)
            self.constants[name] = numpy_helper.from_array(stored.reshape(value.shape), name)
        return name

    def node(self, kind: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        """One operator of ONNX."""
        name = f"{kind}:{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def put(self, graph: onnx.GraphProto, inputs: dict[str, str]) -> str:
        """All of a graph whose names are its own; its only output.

        Args:
            graph: what to put in.
            inputs: tensors of this graph by the names of that one's inputs.

        """
        for value in graph.input:
            self.node("Identity", [inputs[value.name]], output=value.name)
        self.nodes.extend(graph.node)
        self.constants |= {c.name: c for c in graph.initializer}
        return str(graph.output[0].name)

    def dequantized(
        self,
        name: str,
        codes: NDArray[Any],
        scale: NDArray[np.float32],
        axis: int,
        zeros: NDArray[Any] | None = None,
        *,
        narrow: bool = False,
    ) -> str:
        """A constant behind a DequantizeLinear with one scale a channel."""
        zeros = np.zeros(len(scale), codes.dtype) if zeros is None else zeros
        weight = self.constant(name, codes, narrow=narrow)
        zero = self.constant(f"{name}.zero", zeros, narrow=narrow)
        scales = self.constant(f"{name}.scale", scale)
        return self.node("DequantizeLinear", [weight, scales, zero], axis=axis)
