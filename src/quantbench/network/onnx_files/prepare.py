"""What stands between a well-formed ONNX file and its torch form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import Unsupported
from quantbench.network.onnx_files.folding import KnownSizes, folded
from quantbench.network.onnx_files.reading import called
from quantbench.network.onnx_files.spelled_out import spell_out

if TYPE_CHECKING:
    import onnx

OPSET = 17  # the newest that onnx2torch has all operators of

_NEWER = ("Gelu", "Mish")  # than that: functions of older operators

# opsets from which onnx2torch has them
_FIRST = (("BatchNormalization", 9), ("Upsample", 10), ("Slice", 10), ("Pad", 11))

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul")

# with scales that follow each input
DYNAMIC = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul")


def require_static(model: onnx.ModelProto, path: str | Path) -> None:
    """Refuse a network that is neither in floats nor quantized with fixed scales."""
    for node in model.graph.node:
        if node.op_type in DYNAMIC:
            raise Unsupported(
                f"{path}: {called(node)}: was quantized dynamically, with scales that follow each "
                "input: give the file in floats, or one with fixed scales"
            )


def prepared(model: onnx.ModelProto, path: str | Path) -> onnx.ModelProto:
    """The same network under an opset that can be converted, for batches of any size.

    Raises:
        Unsupported: a network that is quantized already, an opset that cannot be lowered.

    """
    require_static(model, path)
    for node in model.graph.node:
        if node.op_type in _QUANTIZED:
            raise Unsupported(
                f"{path}: is quantized already ({node.op_type} {node.name!r}): quantbench onnx "
                "reads it as integers and compares it"
            )
    model = constants_as_initializers(_lowered(model, path))
    spell_out(model)
    _free_batch(model.graph)
    return model


def _lowered(model: onnx.ModelProto, path: str | Path) -> onnx.ModelProto:
    """Under opset 17 where it has a newer one, or one that onnx2torch has not all operators of."""
    from onnx import TensorProto, helper, inliner, version_converter

    (opset,) = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] or [OPSET]
    kinds = {node.op_type for node in model.graph.node}
    old = any(opset < first and kind in kinds for kind, first in _FIRST)
    if opset <= OPSET and not old:
        return model
    try:
        if newer := [("", kind) for kind in _NEWER if kind in kinds]:
            model = inliner.inline_selected_functions(model, newer, inline_schema_functions=True)
            for node in model.graph.node:
                if node.op_type == "CastLike":  # of their constants, to what they are given: floats
                    node.op_type = "Cast"
                    del node.input[1:]
                    node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        return version_converter.convert_version(model, OPSET)
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise Unsupported(
            f"{path}: opset {opset} cannot be brought to {OPSET} ({text}): export it with opset "
            f"{OPSET}"
        ) from e


def constants_as_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant nodes, identities of constants, and sizes that nodes compute of constants.

    Sizes of tensors are such constants where shape inference knows them; with them it knows more.
    """
    import onnx

    while True:
        model, asked = _folded_once(model)
        if not asked:
            return model
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)


def _folded_once(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Also how many sizes of tensors became constants."""
    import onnx
    from onnx import numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    stored = {i.name: i for i in graph.initializer}
    known = KnownSizes.of(graph)
    outputs = {o.name for o in graph.output}
    kept, asked = [], 0
    for node in graph.node:
        size = known.folded(node, stored)
        found = size or folded(node, stored)
        if node.op_type == "Constant" and node.attribute[0].name in ("value", "value_float"):
            a = node.attribute[0]
            found = a.t if a.name == "value" else numpy_helper.from_array(_float32(a.f))
        elif node.op_type == "Identity" and node.input[0] in stored:
            found = stored[node.input[0]]
        if found is None or node.output[0] in outputs:
            kept.append(node)
            continue
        asked += size is not None
        made = onnx.TensorProto()
        made.CopyFrom(found)
        made.name = node.output[0]
        graph.initializer.append(made)
        stored[made.name] = made
    del graph.node[:]
    graph.node.extend(kept)
    return changed, asked


def _float32(value: float) -> object:
    import numpy as np

    return np.array(value, np.float32)


def _free_batch(graph: onnx.GraphProto) -> None:
    """Let the first dimension be anything: in the input, the output, and targets of reshapes.

    A file exported for one image says 1 there. Whether all of it follows is seen by comparing.
    """
    import numpy as np
    from onnx import numpy_helper

    stored = {i.name: i for i in graph.initializer}
    (given,) = [i for i in graph.input if i.name not in stored]
    dims = given.type.tensor_type.shape.dim
    if not dims or not dims[0].dim_value:
        return
    batch = dims[0].dim_value
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, given)
    }
    for node in graph.node:
        target = stored.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is None or shapes.get(node.input[0], [0])[:1] != [batch]:
            continue
        values = numpy_helper.to_array(target).copy()
        if values.size and values[0] == batch:
            values[0] = 0  # as many as the input has
            name = f"{node.output[0]}.free_shape"
            graph.initializer.append(numpy_helper.from_array(values.astype(np.int64), name))
            node.input[1] = name
    for value in (given, *graph.output):
        if len(value.type.tensor_type.shape.dim):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.value_info[:]
