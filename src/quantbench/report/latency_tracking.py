"""MLflow: one run for every table of ``quantbench latency``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.report.mlflow_store import Entry, bring

if TYPE_CHECKING:
    from quantbench.latency.table import Table


GROUP = "latency"


def upload(runs: Path) -> int:
    """Bring ``<runs>/mlflow.db`` up to date with the tables below ``runs``.

    Returns:
        how many were uploaded.

    Raises:
        BadInput: a file that is no table.
        CannotWrite: the database takes no more.

    """
    from quantbench.latency.table import Table

    paths = {f"latency/{path.stem}": path for path in sorted((runs / "latency").glob("*.json"))}
    digests = {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in paths.items()}
    return bring(runs, digests, lambda key: entry(key, Table.load(paths[key])))


def entry(key: str, table: Table) -> Entry:
    """Percentiles, distance from the definition, bytes and layers.

    ``ratio`` is to the best other runtime.
    """
    found = {"peak_gops": 2e-9 * table.peak, "copy_gb_per_s": 1e-9 * table.copy}
    for row in table.rows:
        found |= row.metrics()
        if (ratio := table.ratio(row)) == ratio and row.what.startswith("native"):
            found[f"ratio/{row.what}/threads{row.threads}"] = ratio
    for what, (steps, share) in table.away.items():
        found |= {f"steps_off/{what}": steps, f"share_off/{what}": share}
    found |= {f"bytes/{scheme}": float(size) for scheme, size in table.sizes.items()}
    found |= {
        f"layer_ms/{what}/{layer.name}": layer.ms
        for what, layers in table.layers.items()
        for layer in layers
    }
    params = {"network": table.network, "batch": str(table.batch)}
    return Entry(GROUP, key, key, params, found, {"machine": table.machine})
