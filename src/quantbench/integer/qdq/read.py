"""A quantized ONNX file as an integer program, with what was rounded on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import Conv, Island, Program, Shape
from quantbench.integer.validate import validate
from quantbench.network.onnx_files.prepare import constants_as_initializers, require_static
from quantbench.network.onnx_files.reading import read_onnx

if TYPE_CHECKING:
    import onnx

_ROUNDING = (
    "a sum is multiplied by f32(s_x * s_w / s_y) and rounded once, where the file multiplies "
    "floats one by one: codes at the edge of rounding can differ by a step"
)

_NEAR = 1e-3  # steps of a sum: what float32 scales of stored biases come to


@dataclass(frozen=True, eq=False)
class Foreign:
    """What another tool has quantized.

    Attributes:
        path: of the file.
        producer: tool that wrote it, as the file says.
        model: the file itself.
        program: the same network on integers.
        tensors: name in the program, by that of the codes in the file.
        notes: what the program rounds that the file does not.

    """

    path: Path
    producer: str
    model: onnx.ModelProto
    program: Program
    tensors: dict[str, str]
    notes: tuple[str, ...]

    @property
    def weight_bits(self) -> int:
        """The most bits that a layer's weights have."""
        return max((op.weight_bits for op in self.program.ops if isinstance(op, Conv)), default=8)

    @property
    def per_channel(self) -> bool:
        """Whether a layer has several scales of weights."""
        layers = [op for op in self.program.ops if isinstance(op, Conv)]
        return any(len(set(op.weight_scale.tolist())) > 1 for op in layers)


def read(path: str | Path, size: tuple[int, int] | None = None) -> Foreign:
    """Read a QDQ or QOperator file of one image input.

    Args:
        path: of the file.
        size: rows and columns of an image, where the file leaves them open.

    Raises:
        BadInput: a damaged file, or one whose program would not be safe to run.
        Unsupported: what has no exact integer form, by the name of the node; no quantized network.

    """
    path = Path(path)
    model = read_onnx(path)
    from quantbench.integer.qdq.graph import Graph
    from quantbench.integer.qdq.reader import Reader
    from quantbench.integer.qdq.unfold import unfold

    plain = constants_as_initializers(unfold(constants_as_initializers(model)))
    require_static(plain, path)
    if not any(n.op_type == "QuantizeLinear" for n in plain.graph.node):
        raise Unsupported(
            f"{path}: is not quantized: it has no QuantizeLinear; qb.network brings it in as a "
            "network to quantize"
        )
    shape = _image(plain, path, size)
    reader = Reader(Graph.of(plain, path), shape)
    try:
        program = reader.program()
        validate(program)
    except BadInput as e:
        raise BadInput(f"{path}: {e}") from e
    except RecursionError as e:
        raise Unsupported(f"{path}: too many operators between two quantizations") from e
    producer = f"{model.producer_name} {model.producer_version}".strip() or "an unknown tool"
    notes = _notes(reader.off, program)
    return Foreign(path, producer, model, program, reader.tensors, notes)


def _image(model: onnx.ModelProto, path: Path, size: tuple[int, int] | None) -> Shape:
    """(C, H, W) of the only input.

    Raises:
        Unsupported: several inputs or outputs, or no images.
        BadInput: sizes that are open.

    """
    stored = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in stored]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        count = f"{len(inputs)} inputs and {len(model.graph.output)} outputs"
        raise Unsupported(f"{path}: has {count}; a classifier of images has one each")
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4:
        raise Unsupported(
            f"{path}: its input {inputs[0].name!r} has {len(dims)} dimensions, images have 4"
        )
    channels, rows, columns = dims[1:]
    rows, columns = (rows or (size or (0, 0))[0]), (columns or (size or (0, 0))[1])
    if not (channels and rows and columns):
        raise BadInput(
            f"{path}: leaves the size of images open ({channels} x {rows} x {columns}): give it as "
            "size"
        )
    return channels, rows, columns


def _notes(off: dict[str, float], program: Program) -> tuple[str, ...]:
    """What is rounded here, in words."""
    notes = [_ROUNDING]
    rounded = {name: value for name, value in off.items() if value > _NEAR}
    if rounded:
        name = max(rounded, key=lambda n: rounded[n])
        notes.append(
            f"{len(rounded)} biases are floats in the file and are rounded to steps of the sums, "
            f"by {rounded[name]:.2f} of a step at most ({name})"
        )
    notes += [f"{op.name}: {op.reason}" for op in program.ops if isinstance(op, Island)]
    return tuple(notes)
