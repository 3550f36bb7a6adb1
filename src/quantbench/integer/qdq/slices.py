"""Slices that are subsampling, or a choice of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from quantbench.integer import ir
from quantbench.integer.ir import Shape
from quantbench.integer.qdq.graph import Graph, attribute


def sliced(graph: Graph, node: onnx.NodeProto, shape: Shape, about: dict[str, Any]) -> ir.Op:
    """Every so many rows and columns, or channels from one to another.

    Args:
        graph: of the node.
        node: a Slice.
        shape: (C, H, W) of its input.
        about: fields of the operator that becomes of it.

    Raises:
        Unsupported: crops of rows or columns, numbers that the graph computes.

    """
    channels, rows, columns = (
        range(n)[s] for n, s in zip(shape, _slices(graph, node), strict=True)
    )
    if list(channels) != list(range(shape[0])):
        if (list(rows), list(columns)) != (list(range(shape[1])), list(range(shape[2]))):
            raise graph.refuse(node, "takes some channels and some positions at once")
        return ir.Select(**about, channels=tuple(channels))
    for taken, size in ((rows, shape[1]), (columns, shape[2])):
        if list(taken) != list(range(0, size, max(taken.step, 1))):
            raise graph.refuse(node, "crops, or turns positions around")
    return ir.Pad(**about, pads=(0, 0, 0, 0, 0, 0), stride=(rows.step, columns.step))


def gathered(graph: Graph, node: onnx.NodeProto, shape: Shape, about: dict[str, Any]) -> ir.Op:
    """Channels by number.

    Raises:
        Unsupported: along another axis, or numbers that the graph computes.

    """
    channels = graph.constants.get(node.input[1])
    if attribute(node, "axis", 0) != 1 or channels is None or channels.ndim != 1:
        raise graph.refuse(node, "has no exact integer form here")
    return ir.Select(**about, channels=tuple(int(c) % shape[0] for c in channels))


def _slices(graph: Graph, node: onnx.NodeProto) -> tuple[slice, slice, slice]:
    """Of channels, rows and columns."""
    found: list[list[int] | None] = []
    for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1):
        given = node.input[i] if len(node.input) > i else ""
        if given and given not in graph.constants:
            raise graph.refuse(node, f"its {name} are no constants")
        values = graph.constants[given].reshape(-1).tolist() if given else None
        found.append(attribute(node, name, None) if values is None else values)
    starts, ends, axes, steps = found
    if starts is None or ends is None:
        raise graph.refuse(node, "has no starts or ends")
    axes = axes or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    parts = [slice(None)] * 3
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not 1 <= axis % 4 <= 3 or step < 1:
            raise graph.refuse(node, f"along axis {axis} by steps of {step}")
        parts[axis % 4 - 1] = slice(int(start), int(np.clip(end, -(2**31), 2**31 - 1)), int(step))
    return parts[0], parts[1], parts[2]
