"""Latency rows: what is timed, in which order, and what is made of it."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import numpy as np
import pytest

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.base import backend
from quantbench.integer.ir import Conv
from quantbench.integer.testing import fuzz
from quantbench.integer.validate import validate
from quantbench.latency.interleaved import FLOAT32, interleaved, latencies, rows
from quantbench.latency.layers import layer_programs, layer_table
from quantbench.latency.machine_rates import copy_rate, int8_peak


def test_runners_take_turns_and_none_always_follows_the_same_one() -> None:
    calls: list[str] = []
    runners = {name: lambda _, name=name: calls.append(name) for name in "abcdef"}
    times = interleaved(runners, np.zeros(1), seconds=0.0)
    assert {name: len(t) for name, t in times.items()} == dict.fromkeys("abcdef", 15)
    timed = calls[18:]  # after three rounds of warming up
    rounds = [timed[i : i + 6] for i in range(0, len(timed), 6)]
    assert all(sorted(r) == [*"abcdef"] for r in rounds)
    assert {r[0] for r in rounds} == {*"abcdef"}
    followed = Counter(itertools.pairwise(timed))
    assert max(followed.values()) <= 7, followed


def test_times_are_of_the_calls() -> None:
    times = interleaved(
        {"slow": lambda _: time.sleep(0.004), "fast": lambda _: None}, np.zeros(1), seconds=0.0
    )
    assert min(times["slow"]) >= 0.004
    assert np.median(times["fast"]) < 0.002


def test_rows_are_percentiles_beside_the_reference() -> None:
    found = rows(
        {FLOAT32: [0.004] * 100, "native": [i / 1e5 for i in range(101)]}, batch=8, threads=1
    )
    native = found[1]
    assert (native.p50, native.p90, native.p99, native.best) == pytest.approx((0.5, 0.9, 0.99, 0.0))
    assert native.speedup == pytest.approx(8.0)
    assert native.metrics()["latency_ms/native/batch8/threads1/p50"] == pytest.approx(0.5)
    assert native.metrics()["speedup/native/batch8/threads1"] == pytest.approx(8.0)
    alone = rows({"native": [0.001]}, 1, 1)[0]
    assert not any(name.startswith("speedup") for name in alone.metrics())


def test_nothing_to_time_is_an_error() -> None:
    with pytest.raises(BadInput, match="no backend"):
        interleaved({}, np.zeros(1))


def test_latencies_of_a_program() -> None:
    draw = fuzz.seeded(3)
    program = fuzz.any_program(draw)
    images = fuzz.codes(draw, program, 2)
    runs = {"simulation": (backend("simulation"), program)}
    found = latencies(
        runs, images, float32=lambda _: lambda x: x.sum(), batches=(1, 5), seconds=0.0
    )
    assert [(r.what, r.batch) for r in found] == [
        (w, b) for b in (1, 5) for w in (FLOAT32, "simulation")
    ]
    assert all(0 < r.best <= r.p50 <= r.p90 <= r.p99 for r in found)


def test_layers_alone_compute_what_they_do_in_the_network() -> None:
    compared = 0
    for seed in range(8):
        draw = fuzz.seeded(seed)
        program = fuzz.any_program(draw)
        tensors = oracle.run(program, fuzz.codes(draw, program, 1))
        whole = [op for op in program.ops if isinstance(op, Conv)]
        names = {op.name: op for op in whole}
        for name, alone in layer_programs(program).items():
            validate(alone)
            if len(names[name].inputs) == 1:
                got = oracle.run(alone, tensors[names[name].inputs[0]])["output"]
                np.testing.assert_array_equal(got, tensors[names[name].output])
                compared += 1
    assert compared > 8


def test_layer_table_has_every_layer() -> None:
    program = fuzz.any_program(fuzz.seeded(1))
    table = layer_table(program, backend("simulation"), seconds=0.0)
    assert set(table) == {op.name for op in program.ops if isinstance(op, Conv)}
    assert all(ms > 0 for ms in table.values())


def test_peak_is_a_rate_of_this_machine() -> None:
    if why := backend("native").available():
        pytest.skip(why)
    # any machine multiplies a hundred million small numbers a second
    assert int8_peak(seconds=0.0) > 1e8
    assert copy_rate(1, 2) > 1e8
