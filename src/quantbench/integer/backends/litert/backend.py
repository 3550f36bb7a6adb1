"""LiteRT (TensorFlow Lite with XNNPACK) as a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantbench.errors import Unsupported
from quantbench.integer.backends.base import Array, Backend, Compiled, not_installed
from quantbench.integer.ir import Program

MATRIX = 2  # dimensions of (N, outputs)


class LiteRT(Backend):
    """LiteRT's interpreter with its default delegate."""

    name = "litert"

    def available(self) -> str | None:
        """Its package must be installed."""
        return not_installed("ai_edge_litert", "flatbuffers")

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Write the model; an interpreter for each batch size follows at its first call."""
        return _Interpreter(program, threads)


class _Interpreter(Compiled):
    def __init__(self, program: Program, threads: int) -> None:
        self.program, self.threads = program, threads
        self.ready: dict[int, Any] = {}
        self._open(1, show=False)

    def _open(self, batch: int, *, show: bool) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        from quantbench.integer.backends.litert.model import model

        if show or batch not in self.ready:
            content = model(self.program, batch, show=show)
            opened = Interpreter(model_content=content, num_threads=self.threads)
            try:
                opened.allocate_tensors()
            except RuntimeError as e:
                raise Unsupported(f"LiteRT refuses the network: {e}") from e
            if show:
                return opened
            self.ready[batch] = opened
        return self.ready[batch]

    def __call__(self, images: Array) -> Array:
        opened = self._open(len(images), show=False)
        opened.set_tensor(
            opened.get_input_details()[0]["index"],
            np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
        )
        opened.invoke()
        logits: Array = opened.get_tensor(opened.get_output_details()[0]["index"])
        channels_first = logits.transpose(0, 3, 1, 2) if logits.ndim > MATRIX else logits
        return channels_first.reshape(len(logits), -1)

    def codes(self, images: Array) -> dict[str, Array]:
        opened = self._open(len(images), show=True)
        opened.set_tensor(
            opened.get_input_details()[0]["index"],
            np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
        )
        opened.invoke()
        names = [name for name, f in self.program.formats.items() if f is not None]
        found = {}
        for name, detail in zip(names, opened.get_output_details()[1:], strict=True):
            codes = opened.get_tensor(detail["index"]).astype(np.int16) + 128
            found[name] = codes.astype(np.uint8).transpose(0, 3, 1, 2)
        return found
