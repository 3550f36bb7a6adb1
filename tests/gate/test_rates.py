"""How often the gate is wrong: a quick version of quantbench.gate.simulation, seeds fixed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from quantbench.claims import catalog
from quantbench.cli.main import main
from quantbench.data.roots import clone_root
from quantbench.evidence.result import Result
from quantbench.gate.accept import Reason, accept_cells
from quantbench.gate.baseline import Baseline
from quantbench.gate.cells import compare
from quantbench.gate.losses import ANEW
from quantbench.gate.simulation import CELLS, DRAWN, Kind, simulate
from quantbench.runs.lab import Lab
from quantbench.tasks import images
from tests.gate.few_images import few_images
from tests.helpers.records import cell, records, times


def test_clean_repetitions_do_not_alarm():
    """One in a hundred may, and none of 500 does: docs/statistics.md."""
    assert simulate(CELLS, 120, seed=1).either == 0


def test_one_point_in_one_cell_is_found_in_nine_of_ten_cases():
    assert simulate(CELLS, 60, seed=2, one=1.0).planted >= 0.9


def test_a_little_more_than_two_points_are_found_where_machines_draw_anew():
    assert DRAWN[0].anew
    assert simulate(DRAWN, 60, seed=2, one=2.2).planted >= 0.9


def test_a_little_in_every_cell_is_found_together():
    found = simulate(CELLS, 30, seed=3, every=0.3)
    assert found.together >= 0.9
    assert found.together > found.alone


def test_the_simulated_cells_are_those_of_the_baseline():
    """By how much they differ between the kinds of machines that they were accepted on."""
    cells = Baseline.read(clone_root() / "reference" / "baseline.json").cells
    embedded = [c for i, c in cells.items() if i.startswith(("shapes/", "qa/", "scenes/"))]
    measured = [cell for cell in embedded if cell.discordant is not None]
    alike = {
        (cell.n, cell.discordant): min(
            (k for k in CELLS if k.n == cell.n and k.discordant >= cell.discordant),
            key=lambda kind: kind.discordant,
        )
        for cell in measured
    }
    found = Counter(alike[cell.n, cell.discordant] for cell in measured)
    assert all(kind.anew == (kind.discordant > ANEW) for kind in CELLS)
    assert found == {kind: kind.count for kind in CELLS}


CLAIMS = """
paper = "clean"
title = "Clean repetitions"

[defaults]
source = "here"
kind = "max_drop"
data = "shapes/test"
calib = { data = "shapes/calib", n = 16 }

[models]
resnet8 = { name = "shapes/resnet8" }

[schemes.default]
weights = { range = "minmax" }
acts = { symmetric = false, range = "minmax" }

[sources]
here = { paper = "quantbench", table = "what must hold", reported = "project", status = "read" }

[[claim]]
name = "here-nearest"
method = "nearest"
cells.w8a8 = { resnet8 = 20.0 }

[[claim]]
name = "here-drawn"
method = "rounding"
fields = { rule = "stochastic" }
cells.w4a8 = { resnet8 = 80.0 }
"""


@pytest.fixture
def claims(tmp_path, monkeypatch):
    """These and no others, on 64 images: how many there are decides nothing where bits do."""
    few_images(monkeypatch, tmp_path / "cache", 512)
    read = images._images

    def few(name):
        found = read(name)
        return replace(found, x=found.x[:64], y=found.y[:64])

    monkeypatch.setattr(images, "_images", few)
    monkeypatch.setattr(catalog, "_texts", lambda: [("clean.toml", CLAIMS)])
    yield
    read.cache_clear()


def ran(folder, rng):
    """All cells of the claims, run anew in this folder, each timed on two backends."""
    lab = Lab(folder)
    for claim in catalog.read_claims():
        for one in lab.cells(claim)[0].values():
            timed = tuple(times(backend, 1, 0.1, rng) for backend in ("native", "onednn"))
            lab.ledger.put(one, replace(lab.result(one), latency=timed))
    assert lab.fresh
    return ("--runs", str(folder), "--baseline", str(folder.parent / "b.json"))


@pytest.mark.usefixtures("claims")
def test_fifty_clean_repetitions_through_the_command_without_an_alarm(tmp_path, capsys):
    """On the accepted kind of machine: networks and scores are computed anew, times vary."""
    rng = np.random.default_rng(6)
    assert main(["accept", *ran(tmp_path / "accepted", rng)]) == 0
    for number in range(50):
        assert main(["gate", *ran(tmp_path / f"{number}", rng)]) == 0, capsys.readouterr().out
        assert "cells: 2 identical" in (out := capsys.readouterr().out)
        assert "latencies: 4 unchanged" in out


def test_fifty_clean_repetitions_on_another_kind_of_machine_without_an_alarm(tmp_path):
    """Resampled noise."""
    rng, n, cells = np.random.default_rng(4), 4096, [cell(seed) for seed in range(8)]
    truth = np.ones(n, bool)
    before = [rng.random(n) < 0.9 for _ in cells]
    results = [Result.of(truth, bits, "a") for bits in before]
    runs = records(tmp_path, *zip(cells, results, strict=True), kind="here")
    baseline = accept_cells(Baseline(), runs, Reason("", lower=False, date="2026-11-29"))
    for _ in range(50):
        again = [
            replace(
                run,
                result=_noisy(run.result, rng),
                made={**run.made, "kind": "another"},
            )
            for run in runs
        ]
        assert [found for found in compare(baseline, again) if found.fails] == []


def _noisy(result, rng):
    """1 % of the images answered otherwise, as many for the better as for the worse."""
    bits = result.scores
    flips = np.where(bits, 0.005 / 0.9, 0.005 / 0.1)
    return Result.of(result.fp_scores, bits ^ (rng.random(result.n) < flips), "other")


def test_a_simulation_draws_what_it_says():
    clean = simulate((Kind(2, 2000, 0.01, 0.0),), 40, seed=5)
    lost = simulate((Kind(2, 2000, 0.01, 0.0),), 40, seed=5, one=5.0)
    assert clean.planted == 0
    assert lost.planted == 1
    assert simulate((Kind(2, 2000, 0.01, 0.0),), 40, seed=5, one=5.0) == lost
