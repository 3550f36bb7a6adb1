"""Random programs that strain every rule of the definition: what executors are compared on."""

from __future__ import annotations

import numpy as np

from quantbench.errors import Unsupported
from quantbench.integer.ir import Codes, Dequantize, Op, Program
from quantbench.integer.testing.builder import ENDS, MAKES, Builder
from quantbench.integer.testing.draws import Draw, random_format


def seeded(seed: int) -> Draw:
    """Draws without hypothesis."""
    rng = np.random.default_rng(seed)
    return lambda lo, hi: int(rng.integers(lo, hi + 1))


def codes(draw: Draw, program: Program, n: int) -> Codes:
    """Input codes (n, C, H, W): noise, or all at one end of the range."""
    lo, hi = program.input.lo, program.input.hi
    rng, shape = np.random.default_rng(draw(0, 1 << 30)), (n, *program.shape)
    match draw(0, 3):
        case 0:
            return np.full(shape, hi, np.uint8)
        case 1:
            return rng.choice(np.array([lo, hi], np.uint8), shape)
    return rng.integers(lo, hi + 1, shape).astype(np.uint8)


def any_program(draw: Draw, *, length: int = 6, size: int = 12, branching: bool = False) -> Program:
    """Up to ``length`` operators of all kinds, ending in logits.

    Images have at most ``size`` pixels a side.

    ``branching``: operators read any earlier tensor instead of the last one, a few layers have up
    to 250 outputs, and more images have three channels.
    """
    channels = 3 if branching and draw(0, 3) == 0 else draw(1, 20)
    shape = (channels, draw(1, size), draw(1, size))
    b = Builder(draw, Program(random_format(draw, 8), shape, ()), widest=250 if branching else 24)
    kinds = [make for op, makes in MAKES.items() if op not in ENDS for make in makes]
    for _ in range(draw(1, length)):
        if branching and draw(0, 3) == 0:
            b.last = list(b.formats)[draw(0, len(b.formats) - 1)]
        kinds[draw(0, len(kinds) - 1)](b)
    b.flatten()
    b.conv(logits=True)
    return Program(b.program.input, shape, tuple(b.ops))


def program_with(kind: type[Op], draw: Draw) -> Program:
    """A small program that holds an operator of one kind, and ends in logits.

    Raises:
        Unsupported: a kind that no random program holds.

    """
    if kind not in MAKES:
        raise Unsupported(f"random programs have no {kind.__name__}")
    b = Builder(draw, Program(random_format(draw, 8), (4, 6, 6), ()), widest=24)
    if kind is Dequantize:
        b.flatten()
    MAKES[kind][0](b)
    if kind is not Dequantize:
        b.flatten()
        b.conv(logits=True)
    return Program(b.program.input, b.program.shape, tuple(b.ops))
