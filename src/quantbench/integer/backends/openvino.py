"""OpenVINO as a backend, from the same ONNX."""

from __future__ import annotations

from typing import Any

from quantbench.integer.backends.base import Array, Backend, Compiled, not_installed
from quantbench.integer.ir import Program


class OpenVINO(Backend):
    """OpenVINO's CPU plugin; it fuses residual adds into convolutions, so none is split."""

    name = "openvino"

    def available(self) -> str | None:
        """Both packages must be installed."""
        return not_installed("onnx", "openvino")

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Export and compile."""
        return _Request(program, threads)


class _Request(Compiled):
    def __init__(self, program: Program, threads: int) -> None:
        self.program, self.threads = program, threads
        self.request = self._compile(show=False)

    def _compile(self, *, show: bool) -> Any:
        import openvino

        from quantbench.integer.backends.onnx.export import export

        core = openvino.Core()
        model = core.read_model(export(self.program, show=show).SerializeToString())
        options = {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY"}
        return core.compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, images: Array) -> Array:
        self.request.infer({"images": images}, share_inputs=True)
        logits: Array = self.request.get_tensor("logits").data
        return logits.copy()

    def codes(self, images: Array) -> dict[str, Array]:
        request = self._compile(show=True)
        request.infer({"images": images})
        names = [name for name, f in self.program.formats.items() if f is not None]
        return {name: request.get_tensor(name).data.copy() for name in names}
