"""Sizes and amounts that exporters compute from constants, as the constants that they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

MOST = 1024  # numbers in such a constant

_SHAPES = ("Concat", "ConstantOfShape", "Gather", "Reshape", "Slice", "Squeeze", "Transpose")

_ARITHMETIC = (*_SHAPES, "Unsqueeze", "Add", "Cast", "Div", "Mul", "Sub")


def folded(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """What a node computes of a few stored whole numbers; None for every other node."""
    from onnx import helper, numpy_helper

    given = [stored.get(n) for n in node.input if n]
    if node.op_type not in _ARITHMETIC or not given or not all(_few(t) for t in given):
        return None
    values = {n: numpy_helper.to_array(stored[n]) for n in node.input if n}
    if node.op_type == "ConstantOfShape" and math.prod(values[node.input[0]].tolist()) > MOST:
        return None
    from onnx.reference import ReferenceEvaluator

    names = [helper.make_empty_tensor_value_info(n) for n in values]
    out = helper.make_empty_tensor_value_info(node.output[0])
    graph = helper.make_graph([node], "constant", names, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    try:
        (result,) = ReferenceEvaluator(model).run(None, values)
    except Exception:  # noqa: BLE001 - left as it is, and refused where its value is needed
        return None
    return numpy_helper.from_array(result) if result.size <= MOST else None


@dataclass(frozen=True, eq=False)
class KnownSizes:
    """Sizes of tensors that a graph asks for though they are known: not the first, of images.

    Attributes:
        asked: the tensor whose sizes a Shape gives, by the Shape's output.
        sizes: by tensor; 0 where one is open.

    """

    asked: Mapping[str, str]
    sizes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> KnownSizes:
        """What shape inference has left in a graph."""
        shapes = [n for n in graph.node if n.op_type == "Shape" and not n.attribute]
        asked = {n.output[0]: n.input[0] for n in shapes}
        values = (*graph.value_info, *graph.input, *graph.output)
        sizes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
        return cls(asked, sizes)

    def folded(
        self, node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]
    ) -> onnx.TensorProto | None:
        """The size that a Gather takes from a Shape; None for every other node."""
        from onnx import numpy_helper

        tensor = self.asked.get(node.input[0]) if node.op_type == "Gather" else None
        at = stored.get(node.input[1]) if tensor is not None else None
        if tensor is None or at is None or not _few(at):
            return None
        index, sizes = numpy_helper.to_array(at), self.sizes.get(tensor, ())
        if index.size != 1 or not sizes:
            return None
        place = int(index.reshape(())) % len(sizes)
        if place == 0 or sizes[place] == 0:
            return None
        return numpy_helper.from_array(np.full_like(index, sizes[place]))


def _few(tensor: onnx.TensorProto | None) -> bool:
    """Whether it is a handful of whole numbers."""
    import onnx

    whole = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return tensor is not None and tensor.data_type in whole and math.prod(tensor.dims) <= MOST
