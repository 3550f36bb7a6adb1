"""Convolutions, Gemm and MatMul of quantized constants as the program's one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.integer.ir import Conv, Format, Shape
from quantbench.integer.qdq.constants import Codes, constant_codes
from quantbench.integer.qdq.graph import Graph, attribute
from quantbench.integer.qdq.windows import Window, window

LAYERS = ("Conv", "Gemm", "MatMul")

ROOM = 1 << 30  # a bias beyond this leaves too little of int32 to the sum of products

_EXACT = 1e-6  # relative: scales that are the product of two others, up to float32's rounding


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer without its input and output.

    Attributes:
        node: of the file.
        weight: int8 (O, C / groups, kh, kw).
        zero: int16 (O,).
        scale: float32 (O,).
        bits: of a weight.
        bias: real, float64 (O,).
        groups: of a convolution.

    """

    node: onnx.NodeProto
    weight: NDArray[np.int8]
    zero: NDArray[np.int16]
    scale: NDArray[np.float32]
    bits: int
    bias: NDArray[np.float64]
    groups: int


def read_layer(graph: Graph, node: onnx.NodeProto, more: str = "") -> Layer:
    """Weights and bias of a layer.

    Args:
        graph: of the node.
        node: one of ``LAYERS``.
        more: a constant that is added behind it, as exporters write the bias of a MatMul.

    Raises:
        Unsupported: weights that are not quantized, or not along the outputs; numbers in front of
            a Gemm; a bias that is no constant.

    """
    found = constant_codes(graph, node.input[1])
    if found is None:
        raise graph.refuse(node, f"its weights {node.input[1]!r} are not quantized constants")
    found, groups = _outputs_first(graph, node, found)
    outs = len(found.codes)
    along = found.along(0, outs)
    if along is None:
        raise graph.refuse(node, "its weights have scales along another axis than the outputs")
    scale, zero = along
    codes = found.codes.reshape(*found.codes.shape, *(1,) * (4 - found.codes.ndim))
    if codes.max(initial=0) > np.iinfo(np.int8).max:  # uint8: the same values, shifted
        codes, zero = codes - 128, zero - 128
    names = [n for n in (node.input[2] if len(node.input) > 2 else "", more) if n]
    bias = sum((_bias(graph, node, n, outs) for n in names), np.zeros(outs))
    stored = codes.astype(np.int8), zero.astype(np.int16), scale.astype(np.float32)
    return Layer(node, *stored, max(2, found.bits), np.asarray(bias, np.float64), groups)


def _outputs_first(graph: Graph, node: onnx.NodeProto, w: Codes) -> tuple[Codes, int]:
    if node.op_type == "Conv":
        if w.codes.ndim != 4:
            raise graph.refuse(node, f"weights of {w.codes.ndim} dimensions; 4 are possible")
        return w, int(attribute(node, "group", 1))
    if w.codes.ndim != 2:
        raise graph.refuse(node, f"weights of {w.codes.ndim} dimensions; 2 are possible")
    if node.op_type == "Gemm":
        factors = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        if factors != (1.0, 1.0) or attribute(node, "transA", 0):
            raise graph.refuse(node, f"alpha and beta {factors}, or a transposed input")
        if attribute(node, "transB", 0):
            return w, 1
    return w.transposed([1, 0]), 1


def _bias(graph: Graph, node: onnx.NodeProto, name: str, outs: int) -> NDArray[np.float64]:
    """Real values (O,) of a constant bias."""
    if name in graph.constants:
        values = np.asarray(graph.constants[name], np.float64).reshape(-1)
    else:
        found = constant_codes(graph, name)
        if found is None:
            raise graph.refuse(node, f"its bias {name!r} is no constant")
        steps = found.codes.reshape(-1) - found.zero.reshape(-1)
        values = steps * found.scale.astype(np.float64).reshape(-1)
    if values.size not in (1, outs) or not np.isfinite(values).all():
        why = f"a bias of {values.size} numbers for {outs} outputs, or not finite"
        raise graph.refuse(node, why)
    return np.broadcast_to(values, (outs,)).copy()


def operator(
    graph: Graph,
    layer: Layer,
    inputs: tuple[str, ...],
    x: Format,
    shape: Shape,
    y: Format | None,
    output: str,
    clamp: tuple[int, int],
) -> tuple[Conv, float]:
    """The program's layer, and how far its bias lies from the file's, in steps of the sums.

    Args:
        graph: of the layer.
        layer: its weights.
        inputs: names of the input and, if there is one, of the residual.
        x: format of the input.
        shape: (C, H, W) of the input.
        y: format of the output; None for logits.
        output: name of the output.
        clamp: lowest and highest code.

    Raises:
        Unsupported: a bias that int32 does not hold.

    """
    units = np.float64(x.scale) * layer.scale.astype(np.float64)
    exact = layer.bias / units
    steps = np.rint(exact)
    if (np.abs(steps) > ROOM).any():
        raise graph.refuse(layer.node, "a bias that is too large for int32 in steps of its sums")
    # a bias that was stored in these steps is off by the rounding of its own scale alone
    off = np.abs(exact - steps) - _EXACT * np.abs(steps)
    outs = len(layer.weight)
    where: Window | None = None
    if layer.node.op_type == "Conv":
        down, across = layer.weight.shape[2:]
        where = window(graph, layer.node, (down, across), shape)
    geometry: dict[str, Any] = {}
    if where is not None:
        geometry = {"stride": where.stride, "pads": where.pads, "dilation": where.dilation}
    made = Conv(
        name=layer.node.name or output,
        inputs=inputs,
        output=output,
        out=y,
        weight=layer.weight,
        weight_zero=layer.zero,
        weight_scale=layer.scale,
        bias=steps.astype(np.int32),
        lo=np.full(outs, clamp[0], np.uint8),
        hi=np.full(outs, clamp[1], np.uint8),
        weight_bits=layer.bits,
        groups=layer.groups,
        **geometry,
    )
    return made, float(off.max(initial=0.0))
