"""ONNX Runtime as a backend, through the QDQ export."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantbench.integer.backends.base import Array, Backend, Compiled, not_installed
from quantbench.integer.ir import Program


class OnnxRuntime(Backend):
    """ONNX Runtime's CPU provider.

    Args:
        int4: weights of at most 4 bits as INT4.

    """

    name = "onnxruntime"

    def __init__(self, *, int4: bool = False) -> None:
        self.int4 = int4

    def available(self) -> str | None:
        """Both packages must be installed."""
        return not_installed("onnx", "onnxruntime")

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Export and open a session."""
        return _Session(program, threads, int4=self.int4)


class _Session(Compiled):
    def __init__(self, program: Program, threads: int, *, int4: bool) -> None:
        self.program, self.threads, self.int4 = program, threads, int4
        self.session = self._open(show=False)

    def _open(self, *, show: bool) -> Any:
        import onnxruntime

        from quantbench.integer.backends.onnx_export import export

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3  # errors only
        model = export(self.program, int4=self.int4, split_residuals=True, show=show)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Array) -> Array:
        logits: Array = self.session.run(["logits"], {"images": images})[0]
        return logits

    def codes(self, images: Array) -> dict[str, Array]:
        session = self._open(show=True)
        names = [o.name for o in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
        return {k: v for k, v in found.items() if k != "logits" and v.dtype == np.uint8}
