"""MLflow: one run per cell under a parent run per paper."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from quantbench.evidence.estimates import drop
from quantbench.report.mlflow_store import Entry, allowed, bring
from quantbench.runs.ledger import Stored, flat
from quantbench.system.progress import Progress, silent

PERCENTILES = (50, 90, 99)


def upload(runs: Path, cells: Iterable[tuple[str, Stored]], progress: Progress = silent) -> int:
    """Bring ``<runs>/mlflow.db`` up to date; returns the number of cells uploaded.

    Args:
        runs: folder of everything that runs leave behind.
        cells: (paper, finished cell); a cell of several papers stands under the first.
        progress: called with (done, total, label).

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

    digests = {key: cell.digest for key, (_, cell) in first.items()}
    return bring(runs, digests, entry, progress)


def params(cell: Stored) -> dict[str, str]:
    """Fields of the method and the scheme, the network, the data and the seed, as text."""
    shown = {
        k: v
        for k, v in cell.fields.items()
        if k != "source" and not k.endswith(("digest", "checkpoint"))
    }
    return {allowed(k): str(v) for k, v in flat(shown).items()}


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
    return {allowed(k): v for k, v in found.items()}


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
    return {allowed(k): v for k, v in {**found, **cell.made}.items()}
