"""Finished runs as a ledger gives them back, without any run."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from quantbench.evidence.result import Latency, Result
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.runs.cell import Cell
from quantbench.runs.ledger import Ledger
from quantbench.system.machine import fingerprint


@dataclass(frozen=True)
class Toy:
    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    iterations: int = 100


def cell(seed=0, eval_digest="e0", method=Toy()):
    where = ("shapes/calib", 256, "d0", "shapes/test", eval_digest, seed)
    return Cell(method, Scheme(Grid(4)), "shapes/resnet8", "c0", *where)


def result(lost=0, won=0, digest="accepted", n=1000, **rest):
    """90 % right when accepted; since then ``lost`` images went wrong and ``won`` right."""
    right = n * 9 // 10
    bits = np.arange(n) < right
    bits[:lost] = False
    bits[n - won :] |= won > 0
    return Result.of(np.ones(n, bool), bits, digest, **rest)


def times(backend, batch, factor, rng):
    """Calls as a busy machine shows them: both networks slow down together, noise of 3 %."""
    floats = rng.uniform(1, 5, 40) * rng.uniform(0.97, 1.03, 40)
    samples = floats * factor * rng.uniform(0.97, 1.03, 40)
    return Latency(backend, batch, fingerprint(), tuple(samples), tuple(floats))


def records(folder, *pairs, kind=None):
    """The pairs of cell and result, made on this kind of machine or on the one named."""
    ledger = Ledger(folder)
    for one, found in pairs:
        ledger.put(one, found)
    found = [ledger.find(one) for one, _ in pairs]
    return [replace(r, made={**r.made, "kind": kind}) for r in found] if kind else found
