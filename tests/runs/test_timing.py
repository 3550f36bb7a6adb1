"""Latency of a cell's integer network: what is timed, and of what."""

from __future__ import annotations

import time

import numpy as np
import pytest

from quantbench.evidence.result import Latency
from quantbench.integer.backends.base import Array, backend
from quantbench.integer.backends.native import Native
from quantbench.integer.testing import fuzz
from quantbench.runs.lab import Lab
from quantbench.runs.timing import Race, layers_ms, record
from tests.helpers.records import cell, result


def test_the_reference_is_timed_once_a_round_just_before() -> None:
    seen: list[Array] = []

    def reference(x: Array) -> None:
        seen.append(x)
        time.sleep(0.003)

    program = fuzz.any_program(fuzz.seeded(3))
    x = fuzz.codes(fuzz.seeded(3), program, 2)
    runners = Race(backend("simulation").compile(program), reference, x)
    (given,), named = runners.setup()
    assert given is x
    assert seen[0] is x
    assert not named
    runners.setup()
    assert len(runners.reference_ms) == 2
    assert min(runners.reference_ms) >= 3


@pytest.mark.skipif(Native("").available() is not None, reason=f"{Native('').available()}")
def test_every_module_has_its_time() -> None:
    program = fuzz.any_program(fuzz.seeded(3))
    x = np.ascontiguousarray(fuzz.codes(fuzz.seeded(3), program, 4))
    found = layers_ms(Race(Native().compile(program), len, x))
    assert set(found) == {"input", *(op.name for op in program.ops)}
    assert all(ms > 0 for ms in found.values())
    assert layers_ms(Race(backend("simulation").compile(program), len, x)) == {}


def test_a_timed_cell_is_still_made_where_it_was(tmp_path) -> None:
    """The gate compares bits of machines of one kind, and the kind counts threads."""
    lab, one = Lab(tmp_path), cell()
    lab.ledger.put(one, result(), {"kind": "another", "at": "before"})
    record(lab, one, Latency("native", 1, "this machine", (1.0, 2.0)))
    record(lab, one, Latency("native", 1, "this machine", (3.0,)))
    found = lab.ledger.find(one)
    assert found is not None
    assert found.made == {"kind": "another", "at": "before"}
    assert [row.samples_ms for row in found.result.latency] == [(3.0,)]
