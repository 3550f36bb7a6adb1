"""The baseline's file: what is written is read, and damage is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from quantbench.errors import BadInput
from quantbench.evidence.result import Result
from quantbench.gate.accept import Reason, accept_cells
from quantbench.gate.baseline import Baseline
from tests.helpers.records import cell, records, result

REASON = Reason("", lower=False, date="2026-11-29")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "reference" / "baseline.json"


@pytest.fixture
def held(tmp_path):
    runs = records(tmp_path / "a", (cell(0), result()), (cell(1), result(lost=5)))
    claims = {"a/claim": {"fields": {"tol": 0.5}, "date": "2026-11-29", "why": ""}}
    gone = ({"name": "x", "date": "2026-11-29", "why": "y"},)
    return accept_cells(Baseline({}, claims, gone), runs, REASON)


def test_what_is_written_is_read(held, path):
    held.write(path)
    assert Baseline.read(path) == held
    first = path.read_bytes()
    Baseline.read(path).write(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("kind", ["", "a kind that is accepted no more"])
def test_a_kind_that_only_the_history_names_is_read_again(held, path, kind):
    cells = {
        name: replace(known, marks={}, history=({**known.history[0], "kind": kind},))
        for name, known in held.cells.items()
    }
    odd = replace(held, cells=cells)
    odd.write(path)
    assert Baseline.read(path) == odd


def test_a_line_for_each_cell_claim_and_kind(held, path):
    held.write(path)
    lines = path.read_text().splitlines()
    assert sum(line.startswith('"shapes/resnet8') for line in lines) == 2
    assert sum(line.startswith('"a/claim"') for line in lines) == 1
    assert sum("threads, torch" in line for line in lines) == 1


def test_nothing_is_accepted_where_there_is_no_file(path):
    assert Baseline.read(path) == Baseline()


def test_ten_thousand_images_take_less_than_three_kilobytes_of_scores(tmp_path, path):
    runs = records(tmp_path / "a", (cell(), result(n=10_000)))
    accept_cells(Baseline(), runs, REASON).write(path)
    assert len(path.read_text()) < 3_500


def test_scores_that_are_floats_are_read_again_and_take_less_room(tmp_path, path):
    f1 = np.repeat(np.float32([1, 0, 0.4, 1 / 3]), 2_500)
    found = Result.of(np.ones(10_000, np.float32), f1, "d", metric="f1")
    held = accept_cells(Baseline(), records(tmp_path / "a", (cell(), found)), REASON)
    held.write(path)
    assert Baseline.read(path) == held
    assert len(path.read_text()) < len(found.quantized) / 5
    broken = path.read_text().replace('"scores": "', '"scores": "AAAA')
    path.write_text(broken)
    with pytest.raises(BadInput, match="is damaged"):
        Baseline.read(path)


def test_an_earlier_format_is_named(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": {}}))
    with pytest.raises(BadInput, match="has format 1, this version reads 2"):
        Baseline.read(path)


WHOLE = ("format", "kinds", "cells", "claims", "forgotten")
PARTS = ("value", "scores", "metric", "n", "packing", "eval", "settings", "marks", "history")


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", "3", *WHOLE, *PARTS, "short", "none", "kind", "ratios"]
)
def test_damage_is_named(held, path, broken):
    held.write(path)
    content = json.loads(path.read_text())
    first = next(iter(content["cells"].values()))
    if broken in WHOLE:
        del content[broken]
    elif broken in PARTS:
        del first[broken]
    elif broken == "short":
        first["scores"] = first["scores"][:-8]
    elif broken == "none":
        first |= {"n": 0, "packing": "f4"}
    elif broken == "kind":
        first["marks"] = {"unknown": "mark"}
    elif broken == "ratios":
        first["latency"] = [{"backend": "native", "batch": 1, "machine": "m", "ratios": ["x"]}]
    path.write_text(broken if broken in ("", "{", "[]", "3") else json.dumps(content))
    with pytest.raises(BadInput, match=r"is damaged|has format"):
        Baseline.read(path)
