"""An MLflow server over HTTP with SQLite behind it, killed in the midst of an upload."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from quantbench.claims import select
from quantbench.cli.track import track
from quantbench.errors import CannotWrite
from quantbench.evidence.result import Latency, Result
from quantbench.gate import asked
from quantbench.integer import store
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from quantbench.report import mlflow_store
from quantbench.report.server.pictures import pictures
from quantbench.report.server.upload import WHOLE, Server, Uploaded, model_name
from quantbench.runs.ledger import Ledger
from tests.helpers.lowered import images, made
from tests.report.reports import CURVES_OF_ALL
from tests.report.test_tracking import CELL

TIMED = Latency("native", 1, "a machine", (0.25, 0.5, 0.75), (1.0, 1.0, 1.0), 90.0)

UP = 180  # seconds that a server may take to start


class Running:
    """A server of one's own, which can be killed and started again on the same files."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.process = f"http://127.0.0.1:{self.port}", None

    def start(self):
        store_, files = f"sqlite:///{self.folder / 'db'}", str(self.folder / "files")
        about = ["--backend-store-uri", store_, "--artifacts-destination", files]
        at = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", *about, *at]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=os.environ
            )
        for _ in range(UP):
            time.sleep(1)
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
        raise AssertionError((self.folder / "log").read_text())

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Running(tmp_path_factory.mktemp("server"))
    found.start()
    yield found
    found.kill()


@pytest.fixture(scope="module")
def program():
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 5)
    return lower(made(nn.Sequential(*layers)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, program):
    """Three finished cells, the first with its integer network and its latency."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        cell = replace(CELL, seed=seed)
        scores = np.arange(100) < 90 - seed
        about = {"curves": CURVES_OF_ALL, "latency": () if seed else (TIMED,)}
        found = Result.of(np.ones(100, bool), scores, f"digest{seed}", **about)
        Ledger(folder / "cells").put(cell, found)
    store.save(program, folder / "quantized" / CELL.key() / "program.safetensors")
    return folder


def cells(runs):
    found = (Ledger(runs / "cells").find(replace(CELL, seed=s)) for s in range(3))
    return [("adaround", cell) for cell in found]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow's own classes
def test_an_upload_survives_a_killed_server_and_the_model_predicts(server, runs, program):
    import mlflow
    from mlflow import MlflowClient

    done = []

    def kill_after_the_first(line):
        done.append(line)
        server.kill()

    with pytest.raises(CannotWrite, match="the same command goes on from there"):
        Server(server.uri, runs, kill_after_the_first).upload(cells(runs))
    assert len(done) == 1
    server.start()
    assert Server(server.uri, runs, done.append).upload(cells(runs)).new == 2
    assert Server(server.uri, runs, done.append).upload(cells(runs)).new == 0
    assert len(done) == 3

    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("quantbench/adaround")
    there = client.search_runs([experiment.experiment_id])
    assert len(there) == 3
    for run in there:
        assert run.info.status == "FINISHED"
        assert {WHOLE, "commit", "machine", "eval_digest", "paper"} <= set(run.data.tags)
        assert {"drop", "drop_low", "drop_high"} <= set(run.data.metrics)
        assert run.data.params["scheme.weights.bits"] == "4"
    (first,) = (run for run in there if run.data.params["seed"] == "0")
    charts = {file.path for file in client.list_artifacts(first.info.run_id, "charts")}
    assert charts == {f"charts/{name}.png" for name in ("reconstruction", "shift", "rounding")}
    networks = client.list_artifacts(first.info.run_id, "quantized")
    assert {file.path for file in networks} == {"quantized/program.safetensors"}
    assert networks[0].file_size > 0
    timed = {k: v for k, v in first.data.metrics.items() if k.startswith("latency.native.b1.")}
    assert timed["latency.native.b1.p50_ms"] == 0.5
    assert timed.keys() >= {f"latency.native.b1.p{q}_ms" for q in (90, 99)}

    name = model_name(cells(runs)[0][1])
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (version.tags["digest"], version.tags["scheme"]) == ("digest0", "w4")
    mlflow.set_tracking_uri(server.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}/{version.version}")
    finally:
        mlflow.set_tracking_uri("")
    x = images(4, *program.shape)
    assert np.array_equal(loaded.predict(x.numpy()), Simulation(program)(x).numpy())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow's own classes
def test_a_damaged_network_stops_no_other_run(runs, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)  # where artifacts go without a server
    shutil.copytree(runs, tmp_path / "runs")
    folder = tmp_path / "runs"
    program = folder / "quantized" / CELL.key() / "program.safetensors"
    program.write_bytes(program.read_bytes()[:-50])
    said, uri = [], f"sqlite:///{tmp_path / 'db'}"
    done = Server(uri, folder, said.append).upload(cells(folder))
    assert done.new == 2
    assert set(done.refused) == {CELL.id}
    assert str(program) in said[0]
    again = Server(uri, folder, said.append).upload(cells(folder))
    assert (again.new, set(again.refused)) == (0, {CELL.id})

    made = {"machine": "another", "commit": "later"}
    cell = replace(CELL, seed=1)
    Ledger(folder / "cells").put(cell, Result.of([True, True], [True, False], "d"), made)
    assert Server(uri, folder, said.append).upload(cells(folder)).new == 1
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("quantbench/adaround")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.cell = '{cell.key()}'")
    assert {k: run.data.tags[k] for k in made} == made
    assert run.data.tags["mlflow.source.git.commit"] == "later"
    assert run.data.metrics["top1"] == 50
    assert "conv" not in run.data.metrics  # other curves: the run with the old ones made room


@pytest.mark.slow
def test_curves_of_an_upload_that_was_cut_off_are_whole_and_single(runs, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    uri, (_, cell) = f"sqlite:///{tmp_path / 'db'}", cells(runs)[1]
    monkeypatch.setattr(mlflow_store, "METRICS_PER_CALL", 7)
    log, sent = MlflowClient.log_batch, []

    def cut(self, *args, **named):
        if len(sent) == 4:  # in the midst of the curves
            raise OSError("the line was cut")
        sent.append(named)
        log(self, *args, **named)

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", cut)
        with pytest.raises(CannotWrite, match="the line was cut"):
            Server(uri, runs, sent.append).upload([("adaround", cell)])
    assert Server(uri, runs, sent.append).upload([("adaround", cell)]).new == 1
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("quantbench/adaround")
    (run,) = client.search_runs([experiment.experiment_id])
    for name, curve in CURVES_OF_ALL.items():
        points = client.get_metric_history(run.info.run_id, mlflow_store.allowed(name))
        assert [p.value for p in sorted(points, key=lambda p: p.step)] == list(curve)


@pytest.mark.parametrize(("refused", "code"), [({}, 0), ({CELL.id: "damaged"}, 1)])
def test_what_is_not_whole_is_named_at_the_end(runs, monkeypatch, capsys, refused, code):
    record = Ledger(runs / "cells").find(CELL)
    one = SimpleNamespace(claim=SimpleNamespace(paper="adaround"), records=[record])
    monkeypatch.setattr(select, "chosen", lambda *_: [])
    monkeypatch.setattr(asked, "asked", lambda *_: [one])
    monkeypatch.setattr(Server, "upload", lambda *_: Uploaded(0, refused))
    options = SimpleNamespace(runs=runs, papers=[], select="", tier="", to="here")
    assert track(options) == code
    out = capsys.readouterr().out
    assert f"0 runs uploaded, {1 - code} were there" in out
    assert (CELL.id in out) == bool(code)


def test_a_server_that_is_not_there_is_named(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(CannotWrite, match=r"127\.0\.0\.1:9"):
        Server("http://127.0.0.1:9", runs).upload(cells(runs))


def test_pictures_are_png_in_the_light_theme():
    found = dict(pictures("run", Result.of([True], [True], "d", curves=CURVES_OF_ALL)))
    assert set(found) == {"reconstruction.png", "shift.png", "rounding.png"}
    assert all(png.startswith(b"\x89PNG") for png in found.values())
    assert dict(pictures("run", Result.of([True], [True], "d"))) == {}
