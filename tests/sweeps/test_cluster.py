"""Sweeps on a cluster of two nodes: workers and a node are killed, results of others refused."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from quantbench.errors import BadInput
from quantbench.runs.lab import Lab
from quantbench.sweeps import cluster
from tests.sweeps.made_up import jobs, result, work

ray = pytest.importorskip("ray", reason="Ray is an extra")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    """A head that runs nothing, and two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    path = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])
    memory = {"object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
    workers = [made.add_node(num_cpus=1, **memory) for _ in range(2)]
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    yield made, workers
    ray.shutdown()
    made.shutdown()


def swept(tmp_path, count, disturb=None):
    """Results of a whole sweep, while a thread disturbs it once it is under way."""
    lab = Lab(tmp_path / "runs")
    todo = [(job, job.cell(lab)) for job in jobs(count)]
    marks = lab.runs / "marks"

    def begin():
        while len(list(marks.glob("*"))) < 3:
            time.sleep(0.02)
        disturb(marks)

    thread = threading.Thread(target=begin, daemon=True)
    if disturb:
        thread.start()
    ended = list(cluster.on("", work)(todo, lab))
    return lab, todo, ended, marks


def complete(lab, todo, ended):
    """Every job ended once, and the ledger holds what it found."""
    assert [done.error for done in ended] == [""] * len(todo)
    assert sorted(str(done.job) for done in ended) == sorted(str(job) for job, _ in todo)
    stored = {s.key: s.result for s in lab.ledger.stored()}
    assert stored == {cell.key(): result(str(job)) for job, cell in todo}


@pytest.mark.usefixtures("nodes")
def test_a_worker_is_killed(tmp_path):
    def kill(marks):
        newest = max(marks.glob("*"), key=lambda p: p.stat().st_mtime)
        os.kill(int(newest.read_text().split()[-1]), signal.SIGKILL)

    lab, todo, ended, marks = swept(tmp_path, 8, kill)
    complete(lab, todo, ended)
    assert sum(len(p.read_text().split()) for p in marks.glob("*")) > len(todo)  # it ran anew


@pytest.mark.usefixtures("nodes")
def test_jobs_are_taken_as_processors_become_free(tmp_path):
    """However long a sweep is, no more of it is in memory than runs."""
    lab, taken = Lab(tmp_path / "runs"), []

    def todo():
        for job in jobs(12):
            taken.append(job)
            yield job, job.cell(lab)

    under_way = [len(taken) - done for done, _ in enumerate(cluster.on("", work)(todo(), lab))]
    assert len(under_way) == 12
    assert max(under_way) <= ray.cluster_resources()["CPU"] < 12


def test_a_node_is_killed(nodes, tmp_path):
    made, workers = nodes
    lab, todo, ended, _ = swept(tmp_path, 10, lambda _: made.remove_node(workers[0]))
    complete(lab, todo, ended)


@pytest.mark.usefixtures("nodes")
def test_results_of_other_code_are_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "other").touch()
    lab, _, ended, _ = swept(tmp_path, 2)
    assert all("torch: " in done.error and "-> 0.0" in done.error for done in ended)
    assert not list(lab.ledger.stored())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:x"])
def test_no_cluster_there(address):
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(BadInput, match="no Ray cluster"):
        cluster.on(address)
