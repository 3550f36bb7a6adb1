"""Tensors and operators of a LiteRT (TensorFlow Lite) model.

Its codes are int8, the program's minus 128, and lie as (N, H, W, C).
"""

from __future__ import annotations

from typing import Any

import ai_edge_litert.schema_py_generated as tfl
import flatbuffers
import numpy as np
from numpy.typing import NDArray

from quantbench.integer.ir import Format, Shape

SHIFT = 128  # int8 code = uint8 code - 128

_TYPES = {"float32": 0, "int32": 2, "int8": 9}

_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "RESHAPE": 1,
    "LOCAL_RESPONSE_NORMALIZATION": 1,
}


class LiteGraph:
    """Collects tensors and operators for one batch size; methods give tensors by number."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [tfl.BufferT()]
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}

    def tensor(self, shape: tuple[int, ...], f: Format | None, *, kind: str = "int8") -> int:
        """An activation (N, H, W, C) in a format; float32 if it has none."""
        quantization = None
        if f is not None:
            quantization = tfl.QuantizationParametersT(scale=[f.scale], zeroPoint=[f.zero - SHIFT])
        return self._tensor(shape, kind if f is not None else "float32", 0, quantization)

    def image(self, shape: Shape, f: Format | None) -> int:
        """An activation given as (C, H, W)."""
        return self.tensor((self.batch, shape[1], shape[2], shape[0]), f)

    def constant(
        self, value: NDArray[Any], scales: NDArray[Any] | None = None, axis: int = 0
    ) -> int:
        """A constant; with symmetric scales along an axis, or plain numbers."""
        quantization = None
        if scales is not None:
            zeros = [0] * len(scales)
            quantization = tfl.QuantizationParametersT(
                scale=scales.tolist(), zeroPoint=zeros, quantizedDimension=axis
            )
        return self._constant(value, quantization)

    def constant_codes(self, codes: NDArray[Any], f: Format) -> int:
        """Constant codes in an activation's format."""
        value = (codes.astype(np.int16) - SHIFT).astype(np.int8)
        return self._constant(
            value, tfl.QuantizationParametersT(scale=[f.scale], zeroPoint=[f.zero - SHIFT])
        )

    def op(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """Append an operator; gives its output."""
        kind = type(options).__name__.removesuffix("T")
        self.operators.append(
            tfl.OperatorT(
                opcodeIndex=self.codes.setdefault(name, len(self.codes)),
                inputs=inputs,
                outputs=[output],
                builtinOptionsType=getattr(tfl.BuiltinOptions, kind) if options is not None else 0,
                builtinOptions=options,
            )
        )
        return output

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        graph = tfl.SubGraphT(
            tensors=self.tensors,
            inputs=inputs,
            outputs=outputs,
            operators=self.operators,
            name="main",
        )
        codes = []
        for name in self.codes:
            number = getattr(tfl.BuiltinOperator, name)
            code = tfl.OperatorCodeT(
                deprecatedBuiltinCode=min(number, 127),
                builtinCode=number,
                version=_VERSIONS.get(name, 2),
            )
            codes.append(code)
        model = tfl.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _constant(self, value: NDArray[Any], quantization: Any) -> int:
        data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self.buffers.append(tfl.BufferT(data=data))
        return self._tensor(value.shape, value.dtype.name, len(self.buffers) - 1, quantization)

    def _tensor(self, shape: tuple[int, ...], kind: str, buffer: int, quantization: Any) -> int:
        number = len(self.tensors)
        self.tensors.append(
            tfl.TensorT(
                shape=list(shape),
                type=_TYPES[kind],
                buffer=buffer,
                name=f"t{number}",
                quantization=quantization,
            )
        )
        return number
