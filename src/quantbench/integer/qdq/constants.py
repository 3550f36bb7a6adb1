"""Weights and biases of a quantized file: codes with their scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.integer.qdq.graph import Array, Graph, attribute

_BITS = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int32": 32}

_ROUNDED = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True, eq=False)
class Codes:
    """A constant tensor of codes.

    Attributes:
        codes: int64, of any shape.
        scale: float32, one number or one along ``axis``; ``zero`` int64 likewise.
        axis: of several scales.
        bits: of a code.

    """

    codes: NDArray[np.int64]
    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    axis: int
    bits: int

    def along(self, axis: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Scales and zero points (count,) along an axis; None where they lie along another."""
        if self.scale.size > 1 and self.axis % self.codes.ndim != axis:
            return None
        if self.scale.size not in (1, count) or self.zero.size not in (1, count):
            return None
        zeros = np.broadcast_to(self.zero.reshape(-1), (count,))
        return np.broadcast_to(self.scale.reshape(-1), (count,)).copy(), zeros.copy()

    def transposed(self, order: list[int]) -> Codes:
        """With its axes in another order."""
        axis = order.index(self.axis % self.codes.ndim) if self.scale.size > 1 else 0
        return Codes(self.codes.transpose(order), self.scale, self.zero, axis, self.bits)


def constant_codes(graph: Graph, tensor: str) -> Codes | None:
    """What a dequantized constant holds; None for a tensor that is none.

    Raises:
        Unsupported: codes of a type that no layer can have.

    """
    node = graph.makers.get(tensor)
    if node is None:
        return None
    if node.op_type == "Identity":
        return constant_codes(graph, node.input[0])
    if node.op_type == "Transpose":
        inner = constant_codes(graph, node.input[0])
        order = attribute(node, "perm", [])
        return None if inner is None or not order else inner.transposed(list(order))
    if node.op_type != "DequantizeLinear":
        return None
    values = _stored(graph, node.input[0])
    if values is None:
        return None
    scale, zero = graph.scale(node)
    if len(node.input) < 3 or not node.input[2]:
        zero = np.zeros((), values.dtype)
    kind = values.dtype.name
    if kind not in _BITS:
        raise graph.refuse(node, f"constants of type {kind}; int8, uint8, int4 and int32 are known")
    if not bool((np.isfinite(scale) & (scale > 0)).all()):
        raise graph.refuse(node, "a scale that is not positive and finite")
    axis = int(attribute(node, "axis", 1))
    return Codes(values.astype(np.int64), scale, zero.astype(np.int64), axis, _BITS[kind])


def _stored(graph: Graph, name: str) -> Array | None:
    """Codes that are stored, or that a QuantizeLinear makes of stored floats."""
    if name in graph.constants:
        return np.asarray(graph.constants[name])
    node = graph.makers.get(name)
    if node is None or node.op_type != "QuantizeLinear" or node.input[0] not in graph.constants:
        return None
    values = np.asarray(graph.constants[node.input[0]])
    scale, zero = graph.scale(node)
    kind = zero.dtype.name
    if kind not in _ROUNDED or values.dtype != np.float32:
        raise graph.refuse(node, f"rounds a constant {values.dtype.name} to {kind}")
    if scale.size > 1:
        axis = int(attribute(node, "axis", 1))
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    steps: Any = np.rint(values / scale).astype(np.int64) + zero.astype(np.int64)
    codes: Array = np.clip(steps, *_ROUNDED[kind]).astype(zero.dtype)
    return codes
