"""What ONNX Runtime computes of a model, in its exact mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput
from quantbench.network.onnx_files.reading import require_installed

if TYPE_CHECKING:
    import onnx

# Without VNNI its products of uint8 and int8 saturate at int16 unless it is told to be precise.
PRECISE = ("session.x64quantprecision", "1")


def session(
    model: onnx.ModelProto, *, threads: int = 1, precise: bool = True, optimize: bool = True
) -> Any:
    """A session on the processor.

    Args:
        model: with all weights inside.
        threads: to use.
        precise: products of codes that do not saturate; otherwise what users have by default.
        optimize: with integer kernels in place of quantized patterns; otherwise every node is
            computed as it is written, in floats.

    Raises:
        BadInput: ONNX Runtime refuses the model.
        Unsupported: it is not installed.

    """
    require_installed("onnxruntime", "comparing with ONNX Runtime needs it, and")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # an error is raised, not printed as well
    if precise:
        options.add_session_config_entry(*PRECISE)
    if not optimize:
        none = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = none
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as e:
        raise BadInput(f"ONNX Runtime refuses it: {_line(e)}") from e


def run(opened: Any, images: NDArray[Any], names: list[str] | None = None) -> list[NDArray[Any]]:
    """Outputs of a session of one input.

    Raises:
        BadInput: ONNX Runtime fails on these images.

    """
    (given,) = opened.get_inputs()
    try:
        found: list[NDArray[Any]] = opened.run(names, {given.name: np.ascontiguousarray(images)})
    except Exception as e:
        raise BadInput(f"ONNX Runtime fails: {_line(e)}") from e
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
