"""The check of the integer form: every executor gives the codes of the definition."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from quantbench.conformance.observation import Observation, told
from quantbench.conformance.results import no_reason
from quantbench.conformance.subject import SCHEMES
from quantbench.errors import Unsupported
from quantbench.integer import oracle
from quantbench.integer.backends.base import backend
from quantbench.integer.ir import Program
from quantbench.integer.lowering.lower import lower

EXECUTORS = "simulation", "native"

Codes = Mapping[str, NDArray[np.generic]]


def lowers_exactly(seen: Observation) -> Iterator[str]:
    """Under integer placement there is a program, run alike by all, or a reason why not."""
    if seen.quantized is None or SCHEMES[seen.case.scheme].placement != "integer":
        return
    try:
        with warnings.catch_warnings():
            # how far 8 bits take a network of noise from itself is no matter of executors
            warnings.simplefilter("ignore", UserWarning)
            program = lower(seen.quantized)
    except Unsupported as e:
        yield from no_reason(str(e), f"to lower {seen.case}")
        return
    except Exception as e:  # noqa: BLE001 - whatever lowering raises on what a method has made
        yield f"cannot be lowered {seen.case}: {told(e)}"
        return
    images = seen.calib[0].numpy()
    expected = oracle.run(program, images)
    for name in EXECUTORS:
        for wrong in _differences(name, program, images, expected):
            yield f"{wrong} {seen.case}"


def _differences(
    name: str, program: Program, images: NDArray[np.generic], expected: Codes
) -> Iterator[str]:
    """Tensors in which an executor is not the oracle; one that is not here cannot differ."""
    runtime = backend(name)
    if runtime.available():
        return
    try:
        compiled = runtime.compile(program)
    except Unsupported:
        return
    got = dict(compiled.codes(images))
    missing = {t for t, codes in expected.items() if codes.dtype == np.uint8} - got.keys()
    if missing:
        yield f"the {name} has no codes of {', '.join(sorted(missing))}"
    got[program.output] = compiled(images)
    for tensor, codes in got.items():
        wrong = int((codes != expected[tensor].reshape(codes.shape)).sum())
        if wrong:
            yield f"the {name} differs from the oracle in {wrong} of {codes.size} codes of {tensor}"
