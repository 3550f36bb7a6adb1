"""Softmax at the end, which stays in floats, with a layer in front of it that is not quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from torch.nn import functional as F

from quantbench.integer import ir
from quantbench.integer.qdq.graph import attribute
from quantbench.integer.qdq.layers import Layer
from quantbench.integer.qdq.state import State

_WHY = "softmax is computed in floats"


def softmax(r: State, node: onnx.NodeProto, y: ir.Format | None, output: str) -> str:
    """Append the island that gives probabilities, in a format or as floats.

    Raises:
        Unsupported: along another axis than the classes, or of what is no vector.

    """
    tensor = node.input[0]
    x = r.kept(tensor)
    layer = r.layer(tensor) if x is None else None
    linear: Callable[[Any], Any] = lambda v: v.flatten(1)  # noqa: E731 - replaced below
    why, classes = _WHY, 0
    if layer is not None:
        x = r.need(layer.node, layer.node.input[0])
        linear, classes = _linear(layer), len(layer.weight)
        why += ", and so is the layer in front of it, whose output is not quantized"
    if x is None or r.shapes[x][1:] != (1, 1):
        raise r.graph.refuse(node, "of what is no quantized vector")
    if int(attribute(node, "axis", -1)) not in (-1, 1):
        raise r.graph.refuse(node, "along another axis than the classes")

    def function(values: Any) -> Any:
        return F.softmax(linear(values), dim=1)[:, :, None, None]

    return r.push(
        ir.Island(
            name=node.name or node.output[0],
            inputs=(x,),
            output=r.name(output),
            out=y,
            function=function,
            shape=(classes or r.shapes[x][0], 1, 1),
            reason=why,
        )
    )


def _linear(layer: Layer) -> Callable[[Any], Any]:
    steps = layer.weight[:, :, 0, 0].astype(np.int64) - layer.zero[:, None]
    weight = torch.from_numpy(steps.astype(np.float32) * layer.scale[:, None])
    bias = torch.from_numpy(layer.bias.astype(np.float32))
    return lambda values: F.linear(values.flatten(1), weight, bias)
