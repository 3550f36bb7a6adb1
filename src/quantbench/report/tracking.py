"""MLflow: one run per cell under a parent run per paper, and one per latency table.

They stand in a SQLite file. Only the controlling process calls this, while it holds the ledger's
lock: SQLite stores lose runs when several processes use them first. MLflow takes seconds to import,
so it is not, if a list kept beside the database says that everything has been uploaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import CannotWrite
from quantbench.evidence.estimates import drop
from quantbench.runs.ledger import Stored, flat
from quantbench.system.atomic import write_atomically

if TYPE_CHECKING:
    from mlflow import MlflowClient


EXPERIMENT = "quantbench"

PERCENTILES = (50, 90, 99)

METRICS_PER_CALL = 1000  # MLflow takes no more at once


@dataclass(frozen=True)
class Entry:
    """What becomes one run.

    Attributes:
        group: name of the parent run, such as a paper.
        key: by which the run is found again.
        name: shown.
        params: text by name.
        metrics: numbers by name.
        tags: text by name.
        curves: numbers by step, by name.

    """

    group: str
    key: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


def upload(runs: Path, cells: Iterable[tuple[str, Stored]]) -> int:
    """Bring ``<runs>/mlflow.db`` up to date; returns the number of cells uploaded.

    Args:
        runs: folder of everything that runs leave behind.
        cells: (paper, finished cell); a cell of several papers stands under the first.

    Raises:
        CannotWrite: the database takes no more, for instance because the disk is full.

    """
    first: dict[str, tuple[str, Stored]] = {}
    for paper, cell in cells:
        first.setdefault(cell.key, (paper, cell))

    def entry(key: str) -> Entry:
        paper, cell = first[key]
        found = params(cell), metrics(cell), tags(cell)
        return Entry(paper, key, cell.id, *found, cell.result.curves)

    return bring(runs, {key: cell.digest for key, (_, cell) in first.items()}, entry)


def bring(runs: Path, digests: Mapping[str, str], entry: Callable[[str], Entry]) -> int:
    """Upload what has another digest than when it was uploaded last.

    Args:
        runs: folder of everything that runs leave behind.
        digests: of everything, by key.
        entry: makes what stands under a key; not asked for what is known.

    Returns:
        how many entries that were.

    Raises:
        CannotWrite: as for :func:`upload`.

    """
    database, marker = runs / "mlflow.db", runs / "mlflow.uploaded.json"
    known = _uploaded(marker) if database.exists() else {}
    waiting = {key: digest for key, digest in digests.items() if known.get(key) != digest}
    if waiting:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            _upload_all(database, map(entry, waiting))
        except (MlflowException, SQLAlchemyError, OSError) as e:
            why = str(e).splitlines()[0]
            raise CannotWrite(
                f"cannot write {database}: {why}; the results themselves are kept"
            ) from e
        write_atomically(marker, json.dumps({**known, **waiting}))
    return len(waiting)


def _upload_all(database: Path, entries: Iterable[Entry]) -> None:
    """Every entry under the run of its group."""
    client = _client(database)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    there = _runs(client, experiment_id)
    for entry in entries:
        if entry.group not in there:
            there[entry.group] = _start(client, experiment_id, entry.group, {"paper": entry.group})
            client.set_terminated(there[entry.group])
        _upload(client, experiment_id, there, entry)


def params(cell: Stored) -> dict[str, str]:
    """Fields of the method and the scheme, the network, the data and the seed, as text."""
    shown = {
        k: v
        for k, v in cell.fields.items()
        if k != "source" and not k.endswith(("digest", "checkpoint"))
    }
    return {_name(k): str(v) for k, v in flat(shown).items()}


def metrics(cell: Stored) -> dict[str, float]:
    """All numbers of a cell.

    These are the drop with its interval, accuracies, bytes, seconds by phase, latency by backend
    and batch, and what else the run logged.
    """
    r = cell.result
    interval = drop({0: r})
    found = {
        "drop": r.drop,
        "drop_low": interval.low,
        "drop_high": interval.high,
        "bytes": float(r.size_bytes),
    }
    found |= {r.metric: r.q_top1, f"fp_{r.metric}": r.fp_top1}
    found |= {f"seconds.{k}": v for k, v in r.seconds.items()}
    found |= {k: float(v) for k, v in r.extra.items() if not isinstance(v, str)}
    for row in r.latency:
        about = f"latency.{row.backend}.b{row.batch}"
        found |= {f"{about}.p{q}_ms": row.percentile(q) for q in PERCENTILES}
        found |= {f"{about}.layer.{layer}_ms": ms for layer, ms in row.layers_ms.items()}
        if row.score is not None:
            found[f"{about}.{r.metric}"] = row.score
    return {_name(k): v for k, v in found.items()}


def tags(cell: Stored) -> dict[str, str]:
    """Key, commit, machine, digests of data, weights, code and result."""
    digests = {k: str(v) for k, v in cell.fields.items() if k.endswith(("digest", "checkpoint"))}
    code = hashlib.sha256(json.dumps(cell.fields["source"], sort_keys=True).encode()).hexdigest()
    texts = {k: v for k, v in cell.result.extra.items() if isinstance(v, str)}
    found = {
        "cell": cell.key,
        "id": cell.id,
        "code": code,
        "quantized": cell.result.digest,
        **digests,
        **texts,
    }
    return {_name(k): v for k, v in {**found, **cell.made}.items()}


def _uploaded(marker: Path) -> dict[str, str]:
    """Digest of every uploaded cell.

    None if the list is missing or damaged, since uploading twice does no harm.
    """
    try:
        known = json.loads(marker.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _client(database: Path) -> MlflowClient:
    """A client of the database, which is made if need be."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves this machine unasked
    database.parent.mkdir(parents=True, exist_ok=True)
    # they announce every table of a new database
    for talkative in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database.resolve()}")


def _runs(client: MlflowClient, experiment_id: str) -> dict[str, str]:
    """Run ids by cell key, and by paper for the parents."""
    found: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        for run in page:
            found[run.data.tags.get("cell") or run.data.tags.get("paper", "")] = run.info.run_id
        if not (token := page.token):
            return found


def _start(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    run = client.create_run(experiment_id, tags=dict(tags), run_name=name)
    return str(run.info.run_id)


def _upload(client: MlflowClient, experiment_id: str, there: dict[str, str], entry: Entry) -> None:
    """One entry; a run that an interrupted upload left half-written is completed."""
    from mlflow.entities import Metric, Param

    if entry.key not in there:
        about = {**entry.tags, "cell": entry.key, "mlflow.parentRunId": there[entry.group]}
        there[entry.key] = _start(client, experiment_id, entry.name, about)
    now = int(time.time() * 1000)
    values = [Metric(_name(k), v, now, 0) for k, v in entry.metrics.items()]
    # the step is the logged iteration, or the layer or channel of a shift
    curves = entry.curves.items()
    values += [Metric(_name(k), v, now, i) for k, curve in curves for i, v in enumerate(curve)]
    client.log_batch(there[entry.key], params=[Param(_name(k), v) for k, v in entry.params.items()])
    for start in range(0, len(values), METRICS_PER_CALL):
        client.log_batch(there[entry.key], metrics=values[start : start + METRICS_PER_CALL])
    client.set_terminated(there[entry.key])


def _name(text: str) -> str:
    """A name as MLflow allows them."""
    return re.sub(r"[^\w./ :-]", "_", text)
