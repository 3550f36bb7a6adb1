"""The accepted baseline: what passes, what fails, and that accepting moves it."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from quantbench.cli import gate as commands
from quantbench.errors import BadInput
from quantbench.evidence.result import Latency, Result
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.runs.baseline import Baseline
from quantbench.runs.cell import Cell
from quantbench.runs.ledger import Ledger
from quantbench.runs.pace import kept
from quantbench.system.machine import fingerprint


@dataclass(frozen=True)
class Toy:
    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    iterations: int = 100


def cell(seed=0, eval_digest="e0"):
    return Cell(
        Toy(),
        Scheme(Grid(4)),
        "shapes/resnet8",
        "c0",
        "shapes/calib",
        256,
        "d0",
        "shapes/test",
        eval_digest,
        seed,
    )


def result(lost=0, won=0, digest="accepted", n=1000, **rest):
    """900 of 1,000 right when accepted; since then ``lost`` images went wrong and ``won`` right."""
    bits = np.arange(n) < 900
    bits[:lost] = False
    bits[n - won :] |= won > 0
    return Result.of(np.ones(n, bool), bits, digest, **rest)


def records(ledger_folder, *pairs):
    """The pairs of cell and result as a ledger gives them back."""
    ledger = Ledger(ledger_folder)
    for one, found in pairs:
        ledger.put(one, found)
    return [ledger.find(one) for one, _ in pairs]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "reference" / "baseline.json"


@pytest.fixture
def accepted(tmp_path, path):
    Baseline.read(path).accept(records(tmp_path / "old", (cell(), result())), path)
    return Baseline.read(path)


@pytest.mark.parametrize(
    ("now", "status", "fails"),
    [
        (result(), "identical", False),
        (result(digest="new"), "unchanged", False),
        (result(lost=4, digest="new"), "unchanged", False),  # p = 0.125
        (result(lost=6, digest="new"), "worse", True),  # p = 0.031, 0.6 points
        (result(won=6, digest="new"), "better", True),
        (result(lost=30, won=27, digest="new"), "unchanged", False),  # many images, but either way
        (result(lost=6), "worse", True),  # the same network, evaluated differently
        (result(lost=50, n=999, digest="new"), "other data", True),
    ],
)
def test_a_cell_against_its_baseline(tmp_path, accepted, now, status, fails):
    (change,) = accepted.compare(records(tmp_path / "new", (cell(), now)))
    assert (change.status, change.fails) == (status, fails)
    assert status in str(change)


def test_a_change_too_small_to_matter_passes_however_sure_it_is(tmp_path, path):
    """0.3 points on 10,000 images, p < 1e-8."""
    n = 10_000
    before, after = np.ones(n, bool), np.arange(n) >= 30
    Baseline({}).accept(records(tmp_path / "old", (cell(), Result.of(before, before, "a"))), path)
    (change,) = Baseline.read(path).compare(
        records(tmp_path / "new", (cell(), Result.of(before, after, "b")))
    )
    assert change.p < 1e-8
    assert (change.worse, change.better, change.status) == (30, 0, "unchanged")


def test_a_change_must_stand_out_among_all_cells_tested(tmp_path, path):
    """Six images lost has p = 0.031 alone, 0.31 among ten cells."""
    cells = [cell(seed) for seed in range(10)]
    Baseline({}).accept(records(tmp_path / "old", *((c, result()) for c in cells)), path)
    found = [result(lost=6, digest="new"), *[result(digest="new")] * 9]
    changes = Baseline.read(path).compare(
        records(tmp_path / "new", *zip(cells, found, strict=True))
    )
    assert {c.status for c in changes} == {"unchanged"}
    assert max(c.p for c in changes) == 1
    assert min(c.p for c in changes) == pytest.approx(10 * 2 / 64)


def test_new_absent_and_other_data(tmp_path, accepted):
    changes = accepted.compare(records(tmp_path / "new", (cell(seed=1), result())))
    assert [(c.id, c.status, c.fails) for c in changes] == [
        (cell().id, "absent", False),
        (cell(1).id, "new", False),
    ]
    (change,) = accepted.compare(records(tmp_path / "other", (cell(eval_digest="e1"), result())))
    assert (change.status, change.fails) == ("other data", True)


def test_what_was_asked_for_and_did_not_finish_is_missing(tmp_path, accepted):
    changes = accepted.compare(
        records(tmp_path / "new", (cell(1), result())), {cell().id, cell(1).id}
    )
    assert [(c.status, c.fails) for c in changes] == [("missing", True), ("new", False)]
    assert "did not finish" in str(changes[0])


def test_an_identical_network_need_not_be_evaluated(accepted):
    assert accepted.identical(cell().id, "accepted", "e0")
    assert not accepted.identical(cell().id, "new", "e0")
    assert not accepted.identical(cell().id, "accepted", "e1")
    assert not accepted.identical(cell(1).id, "accepted", "e0")


def test_accepting_moves_these_cells_and_keeps_the_others(tmp_path, accepted, path):
    now = records(tmp_path / "new", (cell(1), result(lost=50, digest="new")))
    accepted.accept(now, path)
    after = Baseline.read(path)
    assert set(after.cells) == {cell(0).id, cell(1).id}
    assert [c.status for c in after.compare(now)] == ["absent", "identical"]
    assert len(path.read_text().splitlines()) == 4  # a line per cell


def test_scores_that_are_not_correctness(tmp_path, path):
    rng = np.random.default_rng(0)
    gold = rng.random(200)
    f1, ranks = (
        {k: Result.of(gold, scores, k, metric=metric, gold=gold if metric == "spearman" else None)}
        for metric, k, scores in (("f1", "a", gold), ("spearman", "b", gold))
    )
    Baseline({}).accept(records(tmp_path / "old", (cell(0), f1["a"]), (cell(1), ranks["b"])), path)
    noisy = np.clip(gold - 0.1 * rng.random(200), 0, 1)
    worse = (
        Result.of(gold, noisy, "c", metric="f1"),
        Result.of(gold, rng.random(200), "d", metric="spearman", gold=gold),
    )
    changes = Baseline.read(path).compare(
        records(tmp_path / "new", (cell(0), worse[0]), (cell(1), worse[1]))
    )
    assert [c.status for c in changes] == ["worse", "worse"]
    assert changes[0].worse > 150


ENTRY = {
    "digest": "a",
    "metric": "top1",
    "eval": "e",
    "gold": "",
    "n": 1,
    "packing": "bits",
    "quantized": "gA==",
}
ENTRY |= {"value": 100.0}
DAMAGED = (
    [],
    {"a": 1},
    *({"a": {k: v for k, v in ENTRY.items() if k != left}} for left in ENTRY),
    {"a": {**ENTRY, "quantized": "?"}},
    {"a": {**ENTRY, "latency": [{"backend": "native", "batch": 1, "ratios": []}]}},
)


def test_a_whole_entry_is_read(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": {"a": ENTRY}}))
    assert set(Baseline.read(path).cells) == {"a"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", *(json.dumps({"cells": cells}) for cells in DAMAGED)]
)
def test_a_damaged_baseline_is_named(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BadInput, match="is damaged"):
        Baseline.read(path)


def timed(factor, machine="m", reference=True, seed=0):
    rng = np.random.default_rng(seed)
    load = rng.uniform(1, 5, 40)  # a busy machine: both networks slow down together
    samples, floats = (
        load * factor * rng.uniform(0.97, 1.03, 40),
        load * rng.uniform(0.97, 1.03, 40),
    )
    row = Latency("onednn", 1, machine, tuple(samples), tuple(floats) if reference else ())
    return result(latency=(row,))


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (timed(0.5, seed=1), "unchanged"),
        (timed(0.52, seed=1), "unchanged"),
        (timed(0.6, seed=1), "slower"),
        (timed(0.4, seed=1), "faster"),
        (timed(0.9, "another", seed=1), "other machine"),
        (timed(0.9, reference=False), "no float32 calls"),
    ],
)
def test_latency_gates_relative_to_float32_and_on_the_same_machine(tmp_path, path, now, status):
    Baseline({}).accept(records(tmp_path / "old", (cell(), timed(0.5))), path)
    (pace,) = Baseline.read(path).compare_latency(records(tmp_path / "new", (cell(), now)))
    assert (pace.status, pace.fails) == (status, status in ("slower", "faster"))
    assert f"onednn batch 1: {status}" in str(pace)


def test_a_latency_row_that_this_machine_had_and_has_no_more_is_missing(tmp_path, path):
    there, here = timed(0.5), timed(0.5, fingerprint())
    for i, (before, status) in enumerate(((here, ["missing"]), (there, []))):
        Baseline({}).accept(records(tmp_path / f"old-{i}", (cell(), before)), path)
        found = Baseline.read(path).compare_latency(records(tmp_path / "new", (cell(), result())))
        assert [p.status for p in found if p.fails] == status


def test_a_latency_row_without_a_baseline_is_new(tmp_path, accepted):
    (pace,) = accepted.compare_latency(records(tmp_path / "new", (cell(), timed(0.5))))
    assert pace.status == "new"


def test_the_baseline_keeps_ratios_not_milliseconds():
    row = Latency("onednn", 1, "m", (1.0, 3.0), (2.0, 4.0))
    assert kept([row]) == [{"backend": "onednn", "batch": 1, "machine": "m", "ratios": [0.5, 0.75]}]


def test_the_commands_gate_and_accept(tmp_path, path, monkeypatch, capsys):
    first = records(tmp_path / "a", (cell(), result()))
    monkeypatch.setattr(commands, "_cells", lambda *_: {r.id: r for r in first})
    assert commands.gate(tmp_path, [], "", path) == 0  # nothing accepted, nothing to miss
    assert "1 new" in capsys.readouterr().out
    assert commands.accept(tmp_path, [], "", path) == 0
    assert commands.gate(tmp_path, [], "", path) == 0
    assert "1 identical" in capsys.readouterr().out
    changed = records(tmp_path / "b", (cell(), replace(result(lost=9), digest="new")))
    monkeypatch.setattr(commands, "_cells", lambda *_: {r.id: r for r in changed})
    assert commands.gate(tmp_path, [], "", path) == 1
    assert (
        "worse, 90.00 -> 89.10 (9 examples worse, 0 better, p = 0.0039)" in capsys.readouterr().out
    )
    other = records(tmp_path / "c", (cell(1), result()))
    # the first crashed
    monkeypatch.setattr(commands, "_cells", lambda *_: {cell().id: None, cell(1).id: other[0]})
    assert commands.gate(tmp_path, [], "", path) == 1
    assert "1 missing, 1 new" in capsys.readouterr().out
