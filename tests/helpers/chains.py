"""Programs of layers for the native kernels, compared with the oracle on every instruction set."""

from __future__ import annotations

import numpy as np

from quantbench.integer import oracle
from quantbench.integer.backends.native import Native, instruction_sets
from quantbench.integer.ir import Conv, Format, Program

SETS = instruction_sets()[::-1]  # the best last


def same(
    program: Program, images: np.ndarray, *, threads: int = 1, limit: int = 0, winograd=None
) -> None:
    """Every tensor, and the output of the run that keeps none."""
    expected = oracle.run(program, images)
    for isa in SETS:
        kernels = Native(isa, winograd=winograd, worth=0)
        compiled = kernels.compile(program, threads=threads, images=limit)
        got = compiled.codes(images)
        for name, codes in got.items():
            np.testing.assert_array_equal(codes, expected[name], f"{isa}: {name}")
        assert got.keys() == {n for n, t in expected.items() if t.dtype == np.uint8}
        logits = compiled(images)
        last = expected[program.output].reshape(logits.shape)
        np.testing.assert_array_equal(logits, last, f"{isa}: output")


class Chain:
    """A program of layers whose outputs spread over the codes they may have."""

    def __init__(self, shape: tuple[int, int, int], bits: int = 8, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.formats = {"input": Format(0.02, int(self.rng.integers(0, 2**bits)), 0, 2**bits - 1)}
        self.shapes = {"input": shape}
        self.ops: list = []

    def push(self, op) -> str:
        self.ops.append(op)
        self.shapes[op.output] = op.output_shape([self.shapes[i] for i in op.inputs])
        self.formats[op.output] = op.out
        return op.output

    def conv(
        self, x, outs, kernel=1, stride=1, pad=None, groups=1, bits=8, acts=8, zero=None,
        residual=None, dilation=1, logits=False,
    ):  # fmt: skip
        rng, f, (c, _, _) = self.rng, self.formats[x], self.shapes[x]
        top = 2 ** (bits - 1) - 1
        shape = (outs, c // groups, kernel, kernel)
        weight = rng.integers(-top - 1, top + 1, shape).astype(np.int8)
        zeros = np.zeros(outs, np.int16)
        if zero is not None:
            zeros = rng.integers(-zero, zero + 1, outs).astype(np.int16)
        y = Format(0.02, int(rng.integers(0, 2**acts)), 0, 2**acts - 1)
        v = weight.astype(int) - zeros[:, None, None, None]
        spread = np.sqrt((v * v).sum((1, 2, 3)) + 1) * (f.hi - f.lo) / 3
        m = (2**acts) / 4 / spread * np.exp(rng.normal(0, 0.2, outs))
        pad = kernel // 2 if pad is None else pad
        name = f"t{len(self.ops)}"
        lo = rng.integers(0, 3, outs).astype(np.uint8)
        bias = rng.integers(-1000, 1000, outs).astype(np.int32)
        hi = rng.integers(2**acts - 2, 2**acts, outs).astype(np.uint8)
        return self.push(Conv(
            name=name, inputs=(x,) if residual is None else (x, residual), output=name,
            out=None if logits else y, weight=weight, weight_zero=zeros,
            weight_scale=(m * y.scale / f.scale).astype(np.float32), bias=bias, lo=lo, hi=hi,
            weight_bits=bits, stride=(stride, stride), pads=(pad,) * 4,
            dilation=(dilation, dilation), groups=groups,
        ))  # fmt: skip

    def program(self) -> Program:
        return Program(self.formats["input"], self.shapes["input"], tuple(self.ops))

    def images(self, n: int) -> np.ndarray:
        shape = (n, *self.shapes["input"])
        return self.rng.integers(0, self.formats["input"].hi + 1, shape).astype(np.uint8)


def kinds(program: Program, images: np.ndarray) -> list[str]:
    """Which kernels the best instruction set uses."""
    return [kind for _, kind, _ in Native(SETS[-1]).compile(program).layers(images, 1)]
