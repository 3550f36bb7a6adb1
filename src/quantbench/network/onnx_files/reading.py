"""Reading ONNX files that anyone may have written.

A file is only data: nothing of it is executed here. What it says of itself (sizes, places of
weights, the order of its nodes) is checked before any of it is believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput, Unsupported
from quantbench.network.onnx_files.weights import LARGEST_TENSOR, bring_in_weights

if TYPE_CHECKING:
    import onnx

EXTRA = "pip install 'quantbench[onnx]'"

LARGEST_FILE = 1 << 31  # bytes that protobuf can hold in one message

DOMAINS = ("", "ai.onnx", "com.microsoft")  # the last has quantization of types that ONNX lacked

_PROGRAMS = ("If", "Loop", "Scan", "SequenceMap")  # nodes that hold graphs, and may never end


def read_onnx(path: str | Path) -> onnx.ModelProto:
    """A model whose nodes are ONNX's own, in order, with all weights inside.

    Raises:
        BadInput: no such file, damage, a cycle, sizes that do not fit, weights outside its folder;
            names the file and the node.
        Unsupported: operators of other domains, graphs inside of nodes, functions.

    """
    require_installed("onnx", f"{path} is an ONNX file, and")
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(path)
    _require_file(path)
    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as e:
        raise BadInput(f"{path}: not an ONNX file, or a damaged one ({e})") from e
    graph = model.graph
    if not model.ir_version or not graph.node:
        raise BadInput(f"{path}: not an ONNX file, or a truncated one: it has no nodes")
    _require_text(model, path)
    _require_plain(model, path)
    _require_order(graph, path)
    bring_in_weights(graph, path)
    return _inferred(model, path)


def require_installed(package: str, who: str) -> None:
    """Raise Unsupported with the way to get what is missing.

    Args:
        package: that is imported.
        who: beginning of the message, such as ``model.onnx is an ONNX file, and``.

    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise Unsupported(f"{who} {package} is not installed: {EXTRA}")


def called(node: onnx.NodeProto) -> str:
    """How messages call a node."""
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"node {node.name or (node.output[0] if node.output else '')!r} ({kind})"


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file")
    if (size := path.stat().st_size) >= LARGEST_FILE:
        raise BadInput(
            f"{path}: {size:,} bytes, where one ONNX file holds fewer than {LARGEST_FILE:,}: keep "
            "large weights as external data beside it"
        )


def _require_text(model: onnx.ModelProto, path: Path) -> None:
    """Names are text: protobuf looks at their bytes only when they are read."""
    graph = model.graph
    names: list[object] = [model.producer_name, model.producer_version]
    try:
        names += [o.domain for o in model.opset_import]
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            names.append(value.name)
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [a.name for a in node.attribute]
    except UnicodeDecodeError:
        names.append(b"")
    if not all(isinstance(name, str) for name in names):
        raise BadInput(f"{path}: a damaged file, with names that are no text")


def _require_plain(model: onnx.ModelProto, path: Path) -> None:
    """Refuse what could run programs of its own, or has no meaning here."""
    import onnx

    if len(model.functions):
        raise Unsupported(
            f"{path}: has functions of its own ({model.functions[0].name!r}): write it again with "
            "onnx.inliner.inline_local_functions"
        )
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise Unsupported(f"{path}: {called(node)} is a custom operator, none of ONNX's own")
        graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        if node.op_type in _PROGRAMS or any(a.type in graphs for a in node.attribute):
            raise Unsupported(f"{path}: {called(node)} holds a graph of its own: control flow")
    if model.graph.sparse_initializer:
        raise Unsupported(f"{path}: has sparse weights; store them dense")


def _require_order(graph: onnx.GraphProto, path: Path) -> None:
    """Every tensor is made once, before it is read."""
    made = {i.name for i in graph.initializer} | {i.name for i in graph.input} | {""}
    for node in graph.node:
        for name in node.input:
            if name not in made:
                raise BadInput(
                    f"{path}: {called(node)} reads {name!r}, which no earlier node makes: a cycle, "
                    "or a node that is missing"
                )
        for name in filter(None, node.output):
            if name in made:
                raise BadInput(f"{path}: {called(node)} makes {name!r}, which is there already")
        made |= set(node.output)
    for out in graph.output:
        if out.name not in made:
            raise BadInput(f"{path}: its output {out.name!r} is made by no node")
    if not graph.output:
        raise BadInput(f"{path}: it has no output")


def _inferred(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """With the shapes of all tensors; refuses shapes that contradict each other, or are huge."""
    import onnx

    try:
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise BadInput(f"{path}: {_first_lines(e)}") from e
    except (RuntimeError, ValueError, MemoryError) as e:
        raise BadInput(f"{path}: its shapes cannot be found ({_first_lines(e)})") from e
    makers = {name: node for node in model.graph.node for name in node.output}
    for value in (*model.graph.value_info, *model.graph.output, *model.graph.input):
        count = 1
        for d in value.type.tensor_type.shape.dim:
            if d.HasField("dim_value") and d.dim_value < 0:
                raise BadInput(f"{path}: {value.name!r} has a size of {d.dim_value}")
            count *= d.dim_value or 1
        if count >= LARGEST_TENSOR:
            maker = called(makers[value.name]) if value.name in makers else "its input"
            raise BadInput(f"{path}: {maker} has {count:,} elements, {value.name!r}")
    return model


def _first_lines(error: Exception) -> str:
    """The text of an error of the ONNX library, without its stack and in one line."""
    return " ".join(str(error).split("\n\n")[0].split())[:400]
