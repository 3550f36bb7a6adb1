"""A SQLite file of MLflow runs, brought up to date with entries that have a key and a digest.

Only the controlling process calls this, while it holds the ledger's lock: SQLite stores lose runs
when several processes use them first. MLflow takes seconds to import, so it is not, if a list kept
beside the database says that everything has been uploaded.
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
from quantbench.system.atomic import write_atomically
from quantbench.system.progress import Progress, silent

if TYPE_CHECKING:
    from mlflow import MlflowClient


EXPERIMENT = "quantbench"

METRICS_PER_CALL = 1000  # MLflow takes no more at once

CURVES = "curves"  # tag: digest of what a run has by step

SAME = 1  # time of every point of a curve, so that a point that is sent again is no second one


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

    @property
    def curves_digest(self) -> str:
        """Of all curves, for the tag :data:`CURVES`."""
        text = json.dumps({name: list(curve) for name, curve in self.curves.items()})
        return hashlib.sha256(text.encode()).hexdigest()


def bring(
    runs: Path,
    digests: Mapping[str, str],
    entry: Callable[[str], Entry],
    progress: Progress = silent,
) -> int:
    """Upload what has another digest than when it was uploaded last.

    Args:
        runs: folder of everything that runs leave behind.
        digests: of everything, by key.
        entry: makes what stands under a key; not asked for what is known.
        progress: called with (done, total, label).

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
            _upload_all(database, map(entry, waiting), len(waiting), progress)
        except (MlflowException, SQLAlchemyError, OSError) as e:
            why = str(e).splitlines()[0]
            raise CannotWrite(
                f"cannot write {database}: {why}; the results themselves are kept"
            ) from e
        write_atomically(marker, json.dumps({**known, **waiting}))
    return len(waiting)


def _upload_all(database: Path, entries: Iterable[Entry], total: int, progress: Progress) -> None:
    """Every entry under the run of its group."""
    client = _client(database)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    there = _runs(client, experiment_id)
    for number, entry in enumerate(entries, start=1):
        if entry.group not in there:
            made = _start(client, experiment_id, entry.group, {"paper": entry.group})
            there[entry.group] = made, ""
            client.set_terminated(made)
        _upload(client, experiment_id, there, entry)
        progress(number, total, "writing to MLflow")


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


def _runs(client: MlflowClient, experiment_id: str) -> dict[str, tuple[str, str]]:
    """Run ids and digests of curves by cell key, and by paper for the parents."""
    found: dict[str, tuple[str, str]] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            about = run.info.run_id, tags.get(CURVES, "")
            found[tags.get("cell") or tags.get("paper", "")] = about
        if not (token := page.token):
            return found


def _start(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    run = client.create_run(experiment_id, tags=dict(tags), run_name=name)
    return str(run.info.run_id)


def _upload(
    client: MlflowClient, experiment_id: str, there: dict[str, tuple[str, str]], entry: Entry
) -> None:
    """One entry; a run that an interrupted upload left half-written is completed.

    MLflow takes nothing back of a curve, so a run with other curves makes room for a new one.
    """
    run, digest = there.get(entry.key, ("", ""))
    if run and digest != entry.curves_digest:
        client.delete_run(run)
        run = ""
    if not run:
        parent, _ = there[entry.group]
        about = {"cell": entry.key, CURVES: entry.curves_digest, "mlflow.parentRunId": parent}
        run = _start(client, experiment_id, entry.name, {**entry.tags, **about})
        there[entry.key] = run, entry.curves_digest
    log_numbers(client, run, entry)
    client.set_terminated(run)


def log_numbers(client: MlflowClient, run: str, entry: Entry) -> None:
    """Parameters, tags, metrics and curves of an entry into its run.

    Tags come before the numbers: of a run that was there, they say of another machine or commit.
    """
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    values = [Metric(allowed(k), v, now, 0) for k, v in entry.metrics.items()]
    params = [Param(allowed(k), v) for k, v in entry.params.items()]
    # the step is the logged iteration, or the layer or channel of a shift
    curves = entry.curves.items()
    values += [Metric(allowed(k), v, SAME, i) for k, curve in curves for i, v in enumerate(curve)]
    client.log_batch(run, params=params, tags=[RunTag(k, v) for k, v in entry.tags.items()])
    for start in range(0, len(values), METRICS_PER_CALL):
        client.log_batch(run, metrics=values[start : start + METRICS_PER_CALL])


def allowed(text: str) -> str:
    """A name as MLflow allows them."""
    return re.sub(r"[^\w./ :-]", "_", text)
