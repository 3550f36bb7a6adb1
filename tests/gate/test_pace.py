"""Latency gates relative to float32, and on the accepted machine alone."""

import numpy as np
import pytest

from quantbench.evidence.result import Latency
from quantbench.gate.pace import compare, kept
from quantbench.system.machine import fingerprint
from tests.helpers.records import result


def timed(factor, machine="m", reference=True, seed=0):
    rng = np.random.default_rng(seed)
    load = rng.uniform(1, 5, 40)  # a busy machine: both networks slow down together
    samples = load * factor * rng.uniform(0.97, 1.03, 40)
    floats = load * rng.uniform(0.97, 1.03, 40)
    return Latency("onednn", 1, machine, tuple(samples), tuple(floats) if reference else ())


def against(before, *rows):
    return compare({"a": kept([before])}, {"a": result(latency=rows)})


@pytest.mark.parametrize(
    ("now", "status", "fails"),
    [
        (timed(0.5, seed=1), "unchanged", False),
        (timed(0.52, seed=1), "unchanged", False),
        (timed(0.575, seed=1), "slower", True),  # 15 %
        (timed(0.4, seed=1), "faster", True),
        (timed(0.9, "another", seed=1), "other machine", False),
        (timed(0.9, reference=False), "no float32 calls", False),
    ],
)
def test_a_row_against_its_baseline(now, status, fails):
    (found,) = against(timed(0.5), now)
    assert (found.status, found.fails) == (status, fails)
    assert f"a onednn batch 1: {status}" in str(found)


@pytest.mark.parametrize(("machine", "status"), [(fingerprint(), ["missing"]), ("m", [])])
def test_a_row_that_this_machine_had_and_has_no_more_is_missing(machine, status):
    assert [f.status for f in against(timed(0.5, machine)) if f.fails] == status


def test_a_row_without_a_baseline_is_new_and_does_not_fail():
    (found,) = compare({"a": []}, {"a": result(latency=(timed(0.5),))})
    assert (found.status, found.fails) == ("new", False)


def test_each_machine_has_its_own_row():
    known = {"a": kept([timed(0.5, "m"), timed(0.9, "other")])}
    found = compare(known, {"a": result(latency=(timed(0.9, "other", seed=1),))})
    assert [f.status for f in found] == ["unchanged"]


def test_a_machine_of_the_same_name_and_another_kind_does_not_gate():
    known, now = kept([timed(0.5, fingerprint())]), timed(0.9, fingerprint(), seed=1)
    (found,) = compare({"a": known}, {"a": result(latency=(now,))}, {"a"})
    assert (found.status, found.fails) == ("other machine", False)
    assert compare({"a": known}, {"a": result()}, {"a"}) == []


def test_the_baseline_keeps_ratios_not_milliseconds():
    row = Latency("onednn", 1, "m", (1.0, 3.0), (2.0, 4.0))
    assert kept([row]) == [{"backend": "onednn", "batch": 1, "machine": "m", "ratios": [0.5, 0.75]}]
