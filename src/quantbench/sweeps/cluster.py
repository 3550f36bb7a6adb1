"""Running the jobs of a sweep on a Ray cluster; results come back to one ledger.

A job travels by names and is resolved where it runs, on that machine's own data. What it found
travels back beside the key that it found it under: a machine with other data, code or torch than
here would have another key, and its result is refused, naming what differs. Only the machine that
was asked writes the ledger, so that nothing is stored twice, whoever ran it.

Ray starts a task anew when its worker or its node dies; what a method cannot do is no reason to. As
many tasks are under way as the cluster has processors, so that neither memory nor the object store
grows with the sweep.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantbench.errors import BadInput, QuantbenchError
from quantbench.evidence.result import Result
from quantbench.runs.ledger import changes
from quantbench.sweeps.engine import Done, Engine

if TYPE_CHECKING:
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab
    from quantbench.sweeps.plan import Job

REACH = 10.0  # seconds

RETRIES = 5  # of a job whose worker or node died

Found = Mapping[str, Any]  # what a worker sends back: fields, result and made, or error


def on(address: str, work: Callable[[Job, str, str], Found] | None = None) -> Engine:
    """The engine of a cluster.

    Args:
        address: such as ``ray://head:10001`` or ``head:6379``; ``auto`` for the cluster of this
            machine; empty starts one here, which ends with this process.
        work: what runs a job; by default :func:`measured`.

    Raises:
        BadInput: Ray is not installed, or there is no cluster at this address.

    """
    try:
        import ray
    except ImportError as e:
        raise BadInput(
            "--engine ray needs Ray, which is not installed: pip install quantbench[ray]"
        ) from e
    if not ray.is_initialized():
        _reach(address)
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as e:
            raise BadInput(f"no Ray cluster at {address!r}: {e}") from e
    return partial(_run, work or measured)


def _reach(address: str) -> None:
    """Find out at once whether anybody listens; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:  # a name such as auto
        return
    try:
        with socket.create_connection((host, int(port)), timeout=REACH):
            pass
    except (OSError, ValueError, OverflowError) as e:
        raise BadInput(f"no Ray cluster at {address!r}: {e}") from e


def _run(
    work: Callable[[Job, str, str], Found], jobs: Iterable[tuple[Job, Cell]], lab: Lab
) -> Iterator[Done]:
    import ray

    need = {"num_gpus": 1} if lab.device == "cuda" else {}
    remote = ray.remote(num_cpus=1, max_retries=RETRIES, **need)(work).remote
    runs = str(lab.runs.absolute())
    left = iter(jobs)
    running: dict[Any, tuple[Job, Cell]] = {}
    try:
        while True:
            for job, cell in islice(left, max(0, _slots(lab.device) - len(running))):
                running[remote(job, runs, lab.device)] = job, cell
            if not running:
                return
            ended, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            for task in ended:
                job, cell = running.pop(task)
                yield _kept(lab, job, cell, _fetch(task))
    except (ray.exceptions.RayError, ConnectionError) as e:
        raise QuantbenchError(
            f"the cluster does not answer any more ({e}): what is finished is kept, "
            "the same command goes on from there"
        ) from e
    finally:  # an interrupt, too
        with suppress(ray.exceptions.RayError, ConnectionError):
            for task in running:
                ray.cancel(task, force=True)


def _slots(device: str) -> int:
    """How many jobs the cluster runs at a time; nodes come and go."""
    import ray

    known = ray.cluster_resources()
    slots = int(known.get("GPU" if device == "cuda" else "CPU", 0))
    if slots < 1:
        raise BadInput(f"the cluster has no processor for {device}: its resources are {known}")
    return slots


def _fetch(task: Any) -> Found:
    """What a task sent back, or why it sent nothing."""
    import ray

    try:
        found: Found = ray.get(task)
    except ray.exceptions.RayTaskError as e:
        return {"error": f"{type(e.cause).__name__}: {e.cause}"}
    except ray.exceptions.RayError as e:  # its worker or node died, each time
        return {"error": f"{type(e).__name__}, started {1 + RETRIES} times"}
    return found


def _kept(lab: Lab, job: Job, cell: Cell, found: Found) -> Done:
    """Store a result that was found under this very key; else say why it is not kept."""
    if "error" in found:
        return Done(job, None, str(found["error"]))
    if differences := changes(cell.key_fields(), found["fields"]):
        where = found["made"]["machine"]
        unlike = f"its machine ({where}) is another than this: {'; '.join(differences)}"
        return Done(job, None, unlike)
    result = Result.from_json(found["result"])
    lab.ledger.put(cell, result, found["made"])
    return Done(job, result)


def measured(job: Job, runs: str, device: str) -> Found:
    """Run a job on the machine that it came to; what it found, as plain values.

    Args:
        job: what is to run.
        runs: folder of runs, on this machine: its ledger keeps what the machine ran already.
        device: ``cpu`` or ``cuda``.

    """
    import torch

    from quantbench.runs.lab import Lab

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    host = os.uname().nodename
    lab = Lab(Path(runs) / "on" / host, device)
    try:
        cell = job.cell(lab)
        lab.result(cell)
    except QuantbenchError as e:
        return {"error": f"on {host}: {e}"}
    stored = lab.ledger.find(cell)  # when and from what code it was made may be long ago
    assert stored is not None, "it was stored just now"
    return {
        "fields": cell.key_fields(),
        "result": stored.result.to_json(),
        "made": dict(stored.made),
    }
