"""The QDQ export by a name that needs no ONNX until it is called."""

from __future__ import annotations

from pathlib import Path

from quantbench.errors import Unsupported
from quantbench.integer.backends.base import not_installed
from quantbench.integer.ir import Program


def save_onnx(program: Program, path: str | Path, *, int4: bool = False) -> None:
    """Write a program as an ONNX file that a plain ONNX Runtime session loads.

    Args:
        program: of ``lower``.
        path: of the file.
        int4: store weights of at most 4 bits as INT4 (opset 21).

    What runs in floats becomes float nodes, by torch's exporter, compared by ONNX Runtime before.

    Raises:
        Unsupported: ONNX is not installed, or an operator that it does not have; a part in floats
            whose nodes compute something else, or that is no graph.

    """
    if why := not_installed("onnx"):
        raise Unsupported(f"writing {path}: {why}")
    from quantbench.integer.backends.onnx.export import save

    save(program, Path(path), int4=int4)
