"""Our own kernels: AVX-512 VNNI, AVX2, 64-bit Arm or portable C++, chosen at run time.

All give the codes of the definition, bit for bit. The extension module is built when the package is
installed. Where it could not be built this backend says so, and the others remain.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.base import Array, Backend, Compiled
from quantbench.integer.backends.native_assembly import Options, assemble
from quantbench.integer.ir import Island, Program
from quantbench.integer.oracle import apply
from quantbench.integer.validate import validate, validate_images

ISA = "QUANTBENCH_ISA"  # environment variable: one of instruction_sets()


class Native(Backend):
    """The kernels of this package.

    Args:
        isa: one of ``instruction_sets()``; by default what ``QUANTBENCH_ISA`` says, else the best
            there is here.
        winograd: use it wherever it is exact, or nowhere; by default where a model says that it is
            faster.
        worth: multiply-accumulates from which a layer is shared among threads; by default where
            that saves time.

    """

    name = "native"

    def __init__(
        self, isa: str | None = None, *, winograd: bool | None = None, worth: float | None = None
    ) -> None:
        self.isa = os.environ.get(ISA, "") if isa is None else isa
        self.winograd, self.worth = winograd, worth

    def available(self) -> str | None:
        """A reason unless the extension was built and the processor has the instruction set."""
        try:
            _module().isa(self.isa)
        except (Unsupported, ValueError) as e:
            return str(e)
        return None

    def compile(
        self, program: Program, *, threads: int = 1, keep: bool = False, images: int = 0
    ) -> NativeProgram:
        """Pack weights and plan memory.

        Args:
            program: what to run.
            threads: threads to use.
            keep: keep every tensor, for ``codes``.
            images: how many pass through the network's later part together; 0 for as many as are
                useful.

        Raises:
            BadInput: a malformed program, an instruction set that this machine lacks.
            Unsupported: the extension was not built.

        """
        return NativeProgram(
            program, Options(self.isa, self.winograd, threads, images, self.worth), keep=keep
        )


class NativeProgram(Compiled):
    """A program ready to run; a second thread that calls it waits for the first."""

    def __init__(self, program: Program, options: Options, *, keep: bool) -> None:
        validate(program)
        last = program.ops[-1] if program.ops else None
        # Kernels end in codes or logits: what stays in floats behind them is computed here, from
        # the codes that it reads.
        self._tail = last if isinstance(last, Island) and last.out is None else None
        coded = replace(program, ops=program.ops[:-1]) if self._tail else program
        self.program, self._coded, self._options = program, coded, options
        self._keeps = keep or self._tail is not None
        self._net, self._numbers = assemble(_module(), coded, options, keep=self._keeps)

    def __call__(self, images: Array) -> Array:
        """Logits float32 (N, outputs), or codes uint8 where the program ends in codes.

        Images (N, C, H, W) are float32 numbers or uint8 codes.
        """
        if self._tail is None:
            return self._run(self._net, images)
        y = self._floats(self._tail, images)
        return y.reshape(len(y), math.prod(y.shape[1:]))

    def _floats(self, tail: Island, images: Array) -> Array:
        codes, formats = self.codes(images), self.program.formats
        known = [f for f in (formats[i] for i in tail.inputs) if f is not None]
        return apply(tail, [codes[i] for i in tail.inputs], known)

    def codes(self, images: Array) -> Mapping[str, Array]:
        """uint8 codes (N, C, H, W) of every tensor by name, the network input included."""
        net, numbers = self._net, self._numbers
        if not self._keeps:
            net, numbers = assemble(_module(), self._coded, self._options, keep=True)
        parts: dict[str, list[Array]] = {name: [] for name in numbers}
        for start in range(0, len(images), net.image_limit):
            batch = images[start : start + net.image_limit]
            self._run(net, batch)
            for name, number in numbers.items():
                parts[name].append(net.read(number, len(batch)))
        return {
            name: np.concatenate(p) for name, p in parts.items() if p and p[0].dtype == np.uint8
        }

    def _run(self, net: Any, images: Array) -> Array:
        """A row an image; sums are known to fit for codes of the input's range only."""
        images = np.asarray(images)  # of a tensor of torch the numbers, or they go unseen
        if images.dtype == np.uint8:
            validate_images(images, self.program)
        try:
            y: Array = net(np.ascontiguousarray(images))
        except ValueError as e:
            raise BadInput(f"native: {e}") from e
        return y

    def layers(self, images: Array, repeats: int = 10) -> list[tuple[str, str, float]]:
        """Module name, kernel and mean seconds of the network input and of every operator."""
        names = {0: "input"} | {self._numbers[op.output]: op.name for op in self._coded.ops}
        rows = self._net.profile(np.ascontiguousarray(images), repeats)
        return [(names[number], kind, seconds) for kind, number, seconds in rows]

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return str(self._net.isa)


def products(rounds: int) -> int:
    """How many products the best instruction set forms in this many rounds of nothing else.

    Raises:
        Unsupported: the extension was not built.

    """
    return int(_module().multiply(os.environ.get(ISA, ""), rounds))


def instruction_sets() -> list[str]:
    """Names of the instruction sets of this machine, the best first; none without the extension."""
    try:
        return list(_module().instruction_sets())
    except Unsupported:
        return []


def _module() -> ModuleType:
    try:
        # An import that keys of results see.
        import quantbench._native as found  # type: ignore[import-not-found]
    except ImportError as e:
        raise Unsupported(
            f"the native kernels are not built ({e});"
            " with a C++20 compiler at hand, install quantbench again"
        ) from e
    module: ModuleType = found
    return module
