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
        exact: ask for products that cannot saturate. Without an instruction that adds four products
            to an int32, its fastest kernels add two in int16, which saturates; on processors that
            have such an instruction this changes nothing.

    """

    name = "onnxruntime"

    def __init__(self, *, int4: bool = False, exact: bool = False) -> None:
        self.int4, self.exact = int4, exact

    def available(self) -> str | None:
        """Both packages must be installed."""
        return not_installed("onnx", "onnxruntime")

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Export and open a session."""
        return _Session(program, threads, int4=self.int4, exact=self.exact)


class _Session(Compiled):
    def __init__(self, program: Program, threads: int, *, int4: bool, exact: bool) -> None:
        self.program, self.threads, self.int4, self.exact = program, threads, int4, exact
        self.session = self._open(show=False)

    def _open(self, *, show: bool) -> Any:
        import onnxruntime

        from quantbench.integer.backends.onnx.export import export

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3  # errors only
        if self.exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
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
