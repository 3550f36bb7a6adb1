"""MLflow: one run per cell, once, under its paper; nothing new means nothing imported."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from quantbench.evidence.result import Latency, Result
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report import mlflow_store, tracking
from quantbench.runs.cell import Cell
from quantbench.runs.ledger import Ledger


@dataclass(frozen=True)
class Toy:
    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    iterations: int = 100


CALIB, EVAL = ("shapes/calib", 256, "d0"), ("shapes/test", "e0")
CELL = Cell(Toy(), Scheme(Grid(4)), "shapes/resnet8", "c0", *CALIB, *EVAL, seed=0)
ROW = Latency("onednn", 32, "m", (1.0, 2.0, 3.0), score=74.0, layers_ms={"fc": 0.5})
RESULT = Result.of(
    np.array([1, 1, 1, 1], bool),
    np.array([1, 1, 1, 0], bool),
    "digest",
    size_bytes=1234,
    latency=(ROW,),
    seconds={"quantize": 2.0},
    extra={"loss[fc]": 0.25, "solver": "highs"},
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two papers, two cells, one of them in both; uploaded once."""
    folder = tmp_path_factory.mktemp("runs")
    ledger = Ledger(folder / "cells")
    for seed in (0, 1):
        ledger.put(replace(CELL, seed=seed), RESULT)
    assert tracking.upload(folder, cells(folder)) == 2
    return folder


def cells(folder):
    first, second = (Ledger(folder / "cells").find(replace(CELL, seed=s)) for s in (0, 1))
    return [("adaround", first), ("brecq", first), ("brecq", second)]


def found(folder):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(mlflow_store.EXPERIMENT)
    return {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}


def test_a_run_per_cell_under_a_run_per_paper(runs):
    there = found(runs)
    ids = [replace(CELL, seed=s).id for s in (0, 1)]
    assert set(there) == {"adaround", "brecq", *ids}
    for cell_id, paper in zip(ids, ("adaround", "brecq"), strict=True):
        assert there[cell_id].data.tags["mlflow.parentRunId"] == there[paper].info.run_id
        assert there[cell_id].info.status == there[paper].info.status == "FINISHED"


def test_the_run_holds_fields_numbers_and_origins(runs):
    run = found(runs)[CELL.id]
    assert run.data.params["method.iterations"] == "100"
    assert run.data.params["scheme.weights.bits"] == "4"
    assert run.data.params["seed"] == "0"
    numbers = run.data.metrics
    shown = [numbers[name] for name in ("drop", "top1", "fp_top1", "bytes")]
    assert shown == [25, 75, 100, 1234]
    assert numbers["drop_low"] < 25 < numbers["drop_high"]
    assert numbers["latency.onednn.b32.p50_ms"] == 2
    assert numbers["latency.onednn.b32.p99_ms"] == pytest.approx(2.98)
    assert numbers["latency.onednn.b32.top1"] == 74
    assert numbers["latency.onednn.b32.layer.fc_ms"] == 0.5
    assert numbers["loss_fc_"] == 0.25
    tags = run.data.tags
    assert (tags["cell"], tags["eval_digest"], tags["checkpoint"]) == (CELL.key(), "e0", "c0")
    assert {"commit", "machine", "code"} <= set(tags)
    assert tags["solver"] == "highs"


def test_a_second_upload_does_not_even_import_mlflow(runs):
    code = (
        "import sys; from pathlib import Path; from test_tracking import *;"
        "folder = Path(sys.argv[1]);"
        "stored = [('adaround', s) for s in Ledger(folder / 'cells').stored()];"
        "print(tracking.upload(folder, stored), 'mlflow' in sys.modules)"
    )
    out = subprocess.check_output(
        [sys.executable, "-c", code, runs], text=True, cwd=Path(__file__).parent
    )
    assert out.split() == ["0", "False"]


def test_a_lost_list_uploads_nothing_twice(runs):
    before = set(found(runs))
    (runs / "mlflow.uploaded.json").write_text("{")
    assert tracking.upload(runs, cells(runs)) == 2
    assert set(found(runs)) == before
    assert len(json.loads((runs / "mlflow.uploaded.json").read_text())) == 2
    assert tracking.upload(runs, cells(runs)) == 0


def test_a_new_measurement_of_a_cell_updates_its_run(runs):
    made = {"machine": "another", "commit": "later"}
    Ledger(runs / "cells").put(CELL, replace(RESULT, seconds={"quantize": 3.0}), made)
    assert tracking.upload(runs, cells(runs)) == 1
    there = found(runs)
    assert there[CELL.id].data.metrics["seconds.quantize"] == 3
    assert {k: there[CELL.id].data.tags[k] for k in made} == made
    assert len(there) == 4


def history(folder, name):
    """Every point that a curve of CELL's run has, by step."""
    from mlflow import MlflowClient

    run = found(folder)[CELL.id]
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    points = client.get_metric_history(run.info.run_id, name)
    return [point.value for point in sorted(points, key=lambda point: point.step)]


def test_a_curve_that_is_sent_again_is_replaced_and_not_appended(runs):
    ledger, marker = Ledger(runs / "cells"), runs / "mlflow.uploaded.json"
    ledger.put(CELL, replace(RESULT, curves={"conv": (1.0, 0.5, 0.25)}))
    assert tracking.upload(runs, cells(runs)) == 1
    assert history(runs, "conv") == [1, 0.5, 0.25]
    marker.write_text("{}")  # an upload that was killed before its end
    assert tracking.upload(runs, cells(runs)) == 2
    assert history(runs, "conv") == [1, 0.5, 0.25]
    ledger.put(CELL, replace(RESULT, curves={"conv": (2.0, 1.5)}))
    assert tracking.upload(runs, cells(runs)) == 1
    assert history(runs, "conv") == [2, 1.5]
    assert len(found(runs)) == 4


def test_the_list_does_not_outlive_its_database(runs, tmp_path, monkeypatch):
    """The store itself is not made again here, which takes seconds."""

    class Asked(Exception):
        pass

    def client(database):
        raise Asked(database)

    monkeypatch.setattr(mlflow_store, "_client", client)
    assert tracking.upload(runs, cells(runs)) == 0
    (tmp_path / "mlflow.uploaded.json").write_text((runs / "mlflow.uploaded.json").read_text())
    with pytest.raises(Asked, match="mlflow"):
        tracking.upload(tmp_path, cells(runs))


def test_nothing_to_upload_makes_nothing(tmp_path):
    assert tracking.upload(tmp_path / "runs", []) == 0
    assert not (tmp_path / "runs").exists()


def test_latency_tables_are_runs_too_and_uploaded_once(runs):
    from quantbench.latency.interleaved import Latency as Row
    from quantbench.latency.table import LayerTime, Table
    from quantbench.report import latency_tracking

    timed = Row("native w8a8", 1, 1, 1.0, 2.0, 3.0, 0.5, 100)
    layers = {"native w8a8": (LayerTime("conv", "conv", 0.5, 10**8, 10**6),)}
    goals, sizes, rates = {"w8a8": 1.8}, {"w8a8": 1234}, (3e11, 1e10)
    table = Table("cifar10/net", 1, "a machine", (timed,), {}, goals, sizes, layers, *rates)
    before = set(found(runs))
    assert latency_tracking.upload(runs) == 0
    table.save(runs / "latency")
    assert latency_tracking.upload(runs) == 1
    assert latency_tracking.upload(runs) == 0
    there = found(runs)
    run = there["latency/cifar10-net-batch1-threads1"]
    assert set(there) == {*before, "latency", run.info.run_name}
    assert run.data.metrics["latency_ms/native_w8a8/batch1/threads1/p50"] == 1.0
    assert run.data.metrics["layer_ms/native w8a8/conv"] == 0.5
    assert run.data.tags["mlflow.parentRunId"] == there["latency"].info.run_id
    replace(table, peak=1e11).save(runs / "latency")
    assert latency_tracking.upload(runs) == 1  # measured again
    assert tracking.upload(runs, cells(runs)) == 0  # which leaves the cells as they are
