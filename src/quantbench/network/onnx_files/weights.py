"""Weights of an ONNX file, where they are kept, and whether they are as large as they say."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput

if TYPE_CHECKING:
    import onnx

LARGEST_TENSOR = 1 << 31  # elements, for two images: a fixed network makes nothing larger


def bring_in_weights(graph: onnx.GraphProto, path: Path) -> None:
    """Read weights that are kept in other files, and see that all are whole.

    Raises:
        BadInput: a place outside the file's folder, a missing or short file, sizes that do not fit
            what is there; names the tensor.

    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    for tensor, where in _tensors(graph):
        label = f"{path}: {where} {tensor.name!r}"
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _require_inside(tensor, path, label)
            try:
                load_external_data_for_tensor(tensor, str(path.parent))
            except (OSError, ValueError, onnx.checker.ValidationError) as e:
                raise BadInput(f"{label}: its data cannot be read ({e})") from e
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        _require_whole(tensor, label)


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[onnx.TensorProto, str]]:
    """Initializers, and tensors in attributes of nodes."""
    import onnx

    for tensor in graph.initializer:
        yield tensor, "initializer"
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                yield a.t, f"node {node.name or node.output[0]!r}, attribute {a.name!r},"
            for tensor in a.tensors:
                yield tensor, f"node {node.name or node.output[0]!r}, attribute {a.name!r},"


def _require_inside(tensor: onnx.TensorProto, path: Path, label: str) -> None:
    """External data lie in the folder of the file, links followed, and are as long as said."""
    about = {entry.key: entry.value for entry in tensor.external_data}
    location = os.fsdecode(about.get("location", ""))  # protobuf gives bytes that are no text
    folder = path.parent.resolve()
    try:
        found = (folder / location).resolve()
        there = found.is_file()
    except (ValueError, OSError) as e:  # a null, or more bytes than a name may have
        raise BadInput(f"{label}: its data have an impossible name, {location!r}") from e
    if not location or Path(location).is_absolute() or not found.is_relative_to(folder):
        raise BadInput(f"{label}: its data are at {location!r}, outside the folder of the file")
    if not there:
        raise BadInput(f"{label}: its data are in {location!r}, which is not there")
    try:
        offset, length = int(about.get("offset", 0)), int(about.get("length", 0))
    except ValueError as e:
        raise BadInput(f"{label}: offset or length of its data is no number") from e
    size = found.stat().st_size
    length = length or _bytes(tensor, label)
    if offset < 0 or length < 0 or offset + length > size:
        raise BadInput(f"{label}: {length:,} bytes from {offset:,} of {location!r}, has {size:,}")


def _bytes(tensor: onnx.TensorProto, label: str) -> int:
    """How many bytes the values of a tensor take as raw data."""
    from onnx import helper

    if any(d < 0 for d in tensor.dims):
        raise BadInput(f"{label}: sizes {list(tensor.dims)}")
    count = math.prod(int(d) for d in tensor.dims)
    if tensor.data_type in _packed():
        return -(-count * _packed()[tensor.data_type] // 8)
    try:
        return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError) as e:
        raise BadInput(f"{label}: data type {tensor.data_type} is not known") from e


def _packed() -> dict[int, int]:
    """Types of fewer than 8 bits, several of which share a byte."""
    import onnx

    narrow = (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    known = onnx.TensorProto.DataType.items()
    return {dict(known)[name]: bits for name, bits in narrow if name in dict(known)}


def _require_whole(tensor: onnx.TensorProto, label: str) -> None:
    """As many values as the sizes say: no array is made that is larger than the file."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        raise BadInput(f"{label}: holds text, not numbers")
    wanted, given, what = _bytes(tensor, label), len(tensor.raw_data), "bytes"
    if not tensor.HasField("raw_data"):
        # one number an entry, or one byte of narrow numbers
        lists = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        given, what = max(len(getattr(tensor, name)) for name in lists), "entries"
        wanted = wanted if tensor.data_type in _packed() else math.prod(tensor.dims)
    if given != wanted:
        sizes = "x".join(map(str, tensor.dims)) or "one number"
        raise BadInput(f"{label}: says {sizes}, which is {wanted:,} {what}, but holds {given:,}")
    # none at all may still come in sizes that no array has, such as 2^62 rows of 0 columns
    if math.prod(d or 1 for d in tensor.dims) > LARGEST_TENSOR:
        raise BadInput(f"{label}: sizes that no weight has, {list(tensor.dims)}")
