"""Functions of one tensor of codes, value by value, in ONNX's own float32 arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.integer.ir import Codes, Format
from quantbench.integer.qdq.graph import Graph, attribute

Values = NDArray[np.float32]

_F = np.float32


def real(codes: NDArray[Any], f: Format) -> Values:
    """DequantizeLinear: values of codes."""
    values: Values = (codes.astype(np.int64) - f.zero).astype(_F) * _F(f.scale)
    return values


def quantize(values: Values, y: Format) -> Codes:
    """QuantizeLinear: codes of values."""
    with np.errstate(over="ignore"):
        steps = np.rint(values / _F(y.scale)).astype(np.float64) + y.zero
    codes: Codes = np.clip(steps, y.lo, y.hi).astype(np.uint8)
    return codes


def apply(node: onnx.NodeProto, inputs: Sequence[Values]) -> Values:
    """An elementwise operator of ``ELEMENTWISE``; constants are single numbers."""
    with np.errstate(all="ignore"):
        values = ELEMENTWISE[node.op_type](node, [np.asarray(v, _F) for v in inputs])
    return np.asarray(values, _F)


def bounds(graph: Graph, node: onnx.NodeProto) -> tuple[float, float]:
    """Lowest and highest value of a Relu or Clip.

    Raises:
        Unsupported: bounds that the graph computes.

    """
    if node.op_type == "Relu":
        return 0.0, math.inf
    low = float(attribute(node, "min", -math.inf))
    high = float(attribute(node, "max", math.inf))
    names = [*node.input[1:3], "", ""][:2]
    found = []
    for name, plain in zip(names, (low, high), strict=True):
        if name and (name not in graph.constants or graph.constants[name].size != 1):
            raise graph.refuse(node, f"its bound {name!r} is no constant number")
        found.append(float(graph.constants[name].reshape(-1)[0]) if name else plain)
    if not found[0] <= found[1]:
        raise graph.refuse(node, f"bounds {found[0]} and {found[1]}")
    return found[0], found[1]


def _sigmoid(x: Values) -> Values:
    values: Values = _F(1) / (_F(1) + np.exp(-x))
    return values


def _hard_sigmoid(node: onnx.NodeProto, x: Values) -> Values:
    alpha, beta = _F(attribute(node, "alpha", 0.2)), _F(attribute(node, "beta", 0.5))
    values: Values = np.clip(x * alpha + beta, _F(0), _F(1))
    return values


def _gelu(node: onnx.NodeProto, x: Values) -> Values:
    from scipy.special import erf

    if attribute(node, "approximate", "none") == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + _F(0.044715) * x**3)
        return np.asarray(x * _F(0.5) * (_F(1) + np.tanh(inner)), _F)
    return np.asarray(x * _F(0.5) * (_F(1) + erf(x / _F(math.sqrt(2)))), _F)


def _erf(x: Values) -> Values:
    from scipy.special import erf

    return np.asarray(erf(x), _F)


Elementwise = Callable[[onnx.NodeProto, list[Values]], Any]

ELEMENTWISE: dict[str, Elementwise] = {
    "Relu": lambda _, v: np.maximum(v[0], _F(0)),
    "Clip": lambda n, v: np.clip(
        v[0],
        v[1] if len(v) > 1 else _F(attribute(n, "min", -np.inf)),
        v[2] if len(v) > 2 else _F(attribute(n, "max", np.inf)),
    ),
    "Sigmoid": lambda _, v: _sigmoid(v[0]),
    "Tanh": lambda _, v: np.tanh(v[0]),
    "HardSigmoid": lambda n, v: _hard_sigmoid(n, v[0]),
    "HardSwish": lambda _, v: v[0] * np.clip(v[0] / _F(6) + _F(0.5), _F(0), _F(1)),
    "LeakyRelu": lambda n, v: np.where(v[0] < 0, v[0] * _F(attribute(n, "alpha", 0.01)), v[0]),
    "PRelu": lambda _, v: np.where(v[0] < 0, v[0] * v[1], v[0]),
    "Elu": lambda n, v: np.where(
        v[0] < 0, _F(attribute(n, "alpha", 1.0)) * np.expm1(np.minimum(v[0], 0)), v[0]
    ),
    "Softplus": lambda _, v: np.logaddexp(v[0], _F(0)),
    "Gelu": lambda n, v: _gelu(n, v[0]),
    "Erf": lambda _, v: _erf(v[0]),
    "Exp": lambda _, v: np.exp(v[0]),
    "Abs": lambda _, v: np.abs(v[0]),
    "Neg": lambda _, v: -v[0],
    "Add": lambda _, v: v[0] + v[1],
    "Sub": lambda _, v: v[0] - v[1],
    "Mul": lambda _, v: v[0] * v[1],
    "Div": lambda _, v: v[0] / v[1],
    "Identity": lambda _, v: v[0],
    "Dropout": lambda _, v: v[0],
}
