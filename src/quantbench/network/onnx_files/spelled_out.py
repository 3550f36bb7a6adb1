"""Defaults of ONNX operators that onnx2torch does not know, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_WINDOWS = ("Conv", "MaxPool", "AveragePool")


def spell_out(model: onnx.ModelProto) -> None:
    """Padding that is told by its result, and a bound of Clip that is left out; in place."""
    sizes = _sizes(model.graph)
    for node in model.graph.node:
        if node.op_type in _WINDOWS:
            _explicit_padding(node, sizes)
        elif node.op_type == "Clip" and len(node.input) > 2 and node.input[2] and not node.input[1]:
            node.input[1] = _lowest(model.graph, node.output[0])


def _sizes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Sizes of tensors; 0 where one is open."""
    values = (*graph.value_info, *graph.input, *graph.output)
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    return sizes | {i.name: list(i.dims) for i in graph.initializer}


def _explicit_padding(node: onnx.NodeProto, sizes: dict[str, list[int]]) -> None:
    """As many zeros as ``auto_pad`` comes to for the input's size, where that is known.

    SAME: ceil(size / stride) windows; an odd zero comes after (UPPER) or before (LOWER).
    """
    from onnx import helper

    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    how = given.get("auto_pad", b"NOTSET").decode()
    kernel = given.get("kernel_shape") or sizes.get(node.input[1], [0, 0])[2:]
    size = sizes.get(node.input[0], [])[2:]
    if how not in ("SAME_UPPER", "SAME_LOWER") or not size or not all((*size, *kernel)):
        return
    ones = [1] * len(size)
    each = zip(size, kernel, given.get("strides", ones), given.get("dilations", ones), strict=True)
    whole = [max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n) for n, k, s, d in each]
    fewer, more = [w // 2 for w in whole], [w - w // 2 for w in whole]
    pads = [*fewer, *more] if how == "SAME_UPPER" else [*more, *fewer]
    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _lowest(graph: onnx.GraphProto, output: str) -> str:
    """Name of a constant below all numbers."""
    import numpy as np
    from onnx import numpy_helper

    name = f"{output}.lowest"
    lowest = np.array(np.finfo(np.float32).min, np.float32)
    graph.initializer.append(numpy_helper.from_array(lowest, name))
    return name
