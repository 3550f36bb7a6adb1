"""What runs in floats as nodes of ONNX, by torch's own exporter.

An island is traced with a few examples, their number of examples left open, and its nodes are put
between the DequantizeLinear of its inputs and the QuantizeLinear of its output. ONNX Runtime then
runs them beside the island on drawn codes before they are believed: torch and a runtime add floats
in another order, so they are asked to be near (``NEAR``), not equal.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, numpy_helper
from torch import Tensor, nn

from quantbench.errors import Unsupported
from quantbench.integer.backends.base import not_installed
from quantbench.integer.ir import Format, Island, Shape
from quantbench.integer.scales import known

Floats = NDArray[np.float32]

LATEST = 20  # opset that torch's exporter knows; from 20 to 21 only types were added

NEAR = 1e-3  # distance of what ONNX Runtime gives from the island's own result, as a part of it

TRACED, RUN = 7, 3  # examples: in a graph that is not open for their number the second fails


def nodes_of(op: Island, formats: list[Format], shapes: list[Shape], opset: int) -> onnx.GraphProto:
    """A graph with an island's nodes, every name in it beginning with the island's output.

    Args:
        op: the island.
        formats: of its inputs.
        shapes: (C, H, W) of its inputs.
        opset: of the file that it goes into.

    Returns:
        a graph from float tensors (N, C, H, W), called ``OUTPUT/x0``, ``OUTPUT/x1`` and so on after
        the island's inputs, to one; without those whose values it does not need.

    Raises:
        Unsupported: ONNX Runtime is not installed, torch cannot export the island, or the graph
            computes something else, by the island's name.

    """
    if why := not_installed("onnxruntime"):
        raise Unsupported(
            f"{op.name} runs in floats, which is compared before it is written: {why}"
        )
    if getattr(op.function, "depends", False):
        raise _refused(op, "no ONNX file can hold a choice that torch's exporter does not see")
    inputs = [f"x{i}" for i in range(len(shapes))]
    model = _exported(op, _drawn(formats, shapes, TRACED), inputs, min(opset, LATEST))
    model.opset_import[0].version = opset
    _require_near(op, model, dict(zip(inputs, _drawn(formats, shapes, RUN), strict=True)))
    prefixed: onnx.GraphProto = compose.add_prefix_graph(model.graph, f"{op.output}/")
    return prefixed


class _Called(nn.Module):
    """Any function as a module; if it is one, its parameters are found."""

    def __init__(self, op: Island) -> None:
        super().__init__()
        self.function = op.function
        self.training = False

    def forward(self, *tensors: Tensor) -> Tensor:
        result: Tensor = self.function(*tensors)
        return result.float()  # numbers of classes, too: a program's output has one type


def _drawn(formats: list[Format], shapes: list[Shape], n: int) -> list[Floats]:
    """Values of codes all over the ranges, (n, C, H, W) each."""
    rng = np.random.default_rng(n)
    return [
        (rng.integers(f.lo, f.hi + 1, (n, *s)) - f.zero).astype(np.float32) * np.float32(f.scale)
        for f, s in zip(formats, shapes, strict=True)
    ]


def _exported(op: Island, examples: list[Floats], names: list[str], opset: int) -> onnx.ModelProto:
    """What torch's exporter makes of an island: it follows the calls of one run."""
    file: Any = io.BytesIO()
    try:
        # tracing warns and prints; the result is compared
        with _quiet(), warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Called(op),
                tuple(map(torch.from_numpy, examples)),
                file,
                dynamo=False,  # the other way needs more packages
                opset_version=opset,
                input_names=names,
                output_names=["y"],
                dynamic_axes={name: {0: "N"} for name in (*names, "y")},
            )
    except Exception as e:
        raise _refused(op, f"torch does not export it to ONNX ({_first(e)})") from e
    model: onnx.ModelProto = onnx.load_from_string(file.getvalue())
    _open(model.graph)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the graphs that the exporter prints where it fails."""
    was = torch._C._jit_is_onnx_log_enabled()  # noqa: SLF001 - no public way
    torch._C._jit_set_onnx_log_enabled(False)  # noqa: SLF001
    try:
        yield
    finally:
        torch._C._jit_set_onnx_log_enabled(was)  # noqa: SLF001


def _open(graph: onnx.GraphProto) -> None:
    """Where the exporter took the number of examples for a constant, they are what they were.

    It does so in shapes of reshaped tensors whose other sizes are constant.
    """
    constants = {c.name: c for c in graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    for node in graph.node:
        held = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if held is not None:
            sizes = numpy_helper.to_array(held).copy()
            if sizes.size and sizes[0] == TRACED:
                sizes[0] = 0  # the input's
                held.CopyFrom(numpy_helper.from_array(sizes, held.name))


def _require_near(op: Island, model: onnx.ModelProto, values: dict[str, Floats]) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it cannot run is an exception
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        read = {i.name for i in model.graph.input}  # some are read for their sizes alone
        (got,) = session.run(["y"], {k: v for k, v in values.items() if k in read})
    except Exception as e:
        why = "ONNX Runtime refuses it, with another number of images than it was traced with: "
        why += _first(e)
        raise _refused(op, why) from e
    with torch.no_grad():
        right = op.function(*map(torch.from_numpy, values.values())).numpy()
    if op.out is not None:  # beyond the ends nothing is told apart
        y = known(op.out)
        ends = (y.lo - y.zero) * y.scale, (y.hi - y.zero) * y.scale
        got, right = np.clip(got, *ends), np.clip(right, *ends)
    if got.shape != right.shape:
        raise _refused(op, f"its result has shape {got.shape} in ONNX Runtime, {right.shape} here")
    if not np.isfinite(right).all():
        raise _refused(op, "its result is not finite for some codes of its inputs' ranges")
    off, size = _distance(got, right), float(np.linalg.norm(right.astype(np.float64)))
    if not off <= NEAR * size:
        raise _refused(op, f"ONNX Runtime's result differs from torch's by {off:.2g} of {size:.2g}")


def _distance(got: Floats, right: Floats) -> float:
    if got.shape != right.shape:
        return float("inf")
    return float(np.linalg.norm(got.astype(np.float64) - right))


def _first(error: Exception) -> str:
    """The first line of a message; some hold a whole graph."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _refused(op: Island, why: str) -> Unsupported:
    return Unsupported(f"{op.name} runs in floats ({op.reason}), and {why}")
