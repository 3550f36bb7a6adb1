"""Finished cells to an MLflow server: numbers, curves, charts, and the integer network as a model.

A run is whole when it carries the digest of its record; what an interruption left half-written is
completed by the next upload, and what is whole is left alone.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput, CannotWrite
from quantbench.report.mlflow_store import Entry, log_numbers
from quantbench.report.tracking import metrics, params, tags
from quantbench.runs.alone import alone
from quantbench.runs.ledger import Stored

if TYPE_CHECKING:
    from mlflow import MlflowClient

WHOLE = "record"  # tag: digest of the record whose upload came to its end

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves this machine unasked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by itself it would try for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Uploaded:
    """What an upload came to.

    Attributes:
        new: runs that were not there yet, and are now.
        refused: why others are not whole, by the id of their cell.

    """

    new: int
    refused: dict[str, str]


@dataclass(frozen=True)
class Server:
    """Where runs go.

    Attributes:
        uri: of the server.
        runs: folder that holds their quantized networks.
        say: told about every run that was uploaded.

    """

    uri: str
    runs: Path
    say: Callable[[str], object] = print

    def upload(self, cells: Iterable[tuple[str, Stored]]) -> Uploaded:
        """Upload what is not there yet; a run whose integer network is damaged stops no other.

        Args:
            cells: paper and finished cell; a cell of several papers stands with each.

        Raises:
            CannotWrite: the server does not answer, or takes no more.

        """
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            # two at once would both make a store's tables, and a run each of what neither found
            with alone(self.uri, self.say):
                client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                return self._all(client, {(paper, cell.key): cell for paper, cell in cells})
        except (MlflowException, SQLAlchemyError, OSError) as e:
            why = (str(e).splitlines() or [type(e).__name__])[0]
            raise CannotWrite(
                f"{self.uri}: {why}; what was uploaded is kept: the same command goes on from there"
            ) from e

    def _all(self, client: MlflowClient, cells: Mapping[tuple[str, str], Stored]) -> Uploaded:
        """Cells by paper and key, one after another."""
        new, refused = 0, dict[str, str]()
        for (paper, _), cell in cells.items():
            try:
                new += self._one(client, paper, cell)
            except BadInput as e:  # its numbers are there; without the mark it is tried again
                refused[cell.id] = str(e)
                self.say(f"{paper}: {cell.id}: its integer network is not uploaded: {e}")
        return Uploaded(new, refused)

    def _one(self, client: MlflowClient, paper: str, cell: Stored) -> bool:
        """One cell; whether it was not there yet."""
        experiment = _experiment(client, f"quantbench/{paper}")
        found = client.search_runs([experiment], f"tags.cell = '{cell.key}'", max_results=1)
        if found and found[0].data.tags.get(WHOLE) == cell.digest:
            return False
        about = {
            **tags(cell),
            "paper": paper,
            "mlflow.source.git.commit": cell.made.get("commit", ""),
        }
        entry = Entry(paper, cell.key, cell.id, params(cell), metrics(cell), about)
        run = found[0] if found else client.create_run(experiment, run_name=cell.id, tags=about)
        name = str(run.info.run_id)
        if not found:  # curves are long: of a run that is completed they may be there twice
            entry = Entry(**{**vars(entry), "curves": cell.result.curves})
        log_numbers(client, name, entry)
        self._files(client, name, cell)
        client.set_tag(name, WHOLE, cell.digest)
        client.set_terminated(name)
        self.say(f"{paper}: {cell.id}")
        return True

    def _files(self, client: MlflowClient, run: str, cell: Stored) -> None:
        """Charts, the quantized network, and the model."""
        from quantbench.report.server.pictures import pictures

        with tempfile.TemporaryDirectory() as made:
            for file, png in pictures(cell.id, cell.result):
                (Path(made) / file).write_bytes(png)
            client.log_artifacts(run, made, "charts")
        folder = self.runs / "quantized" / cell.key
        if folder.is_dir():
            client.log_artifacts(run, str(folder), "quantized")
        if (program := folder / "program.safetensors").exists():
            _register(client, run, cell, program)


def _register(client: MlflowClient, run: str, cell: Stored, program: Path) -> None:
    """The model of a run, registered once for each quantized network."""
    from mlflow.exceptions import MlflowException

    from quantbench.report.server.model import save

    with tempfile.TemporaryDirectory() as made:
        save(program, Path(made) / "model")
        client.log_artifacts(run, str(Path(made) / "model"), "model")
    name = model_name(cell)
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    digest = cell.result.digest
    known = client.search_model_versions(f"name = '{name}'")
    if any(version.tags.get("digest") == digest for version in known):
        return
    source = f"{client.get_run(run).info.artifact_uri}/model"
    scheme = cell.id.removeprefix(f"{cell.fields['model']}/").partition("/")[0]
    about = {"scheme": scheme, "digest": digest, "cell": cell.key}
    client.create_model_version(name, source, run, tags=about, await_creation_for=0)


def model_name(cell: Stored) -> str:
    """Of a registered model: network, scheme and method; MLflow allows no slash."""
    return re.sub(r"[^\w.-]", "-", f"quantbench-{cell.id.rpartition('-')[0]}")


def _experiment(client: MlflowClient, name: str) -> str:
    """Id of an experiment, which is made if need be."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))
