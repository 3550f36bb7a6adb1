"""``quantbench import``: scores that another tool measured, beside our finished runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quantbench.comparison.scores import Scores
    from quantbench.comparison.table import Row
    from quantbench.runs.lab import Lab
    from quantbench.tasks.task import Task


def run(options: argparse.Namespace) -> int:
    """Print a table for each file, and keep it for the report.

    Raises:
        BadInput: a file that is no table of scores of these examples.

    """
    from quantbench.comparison.files import METRICS
    from quantbench.comparison.scores import beside, read_scores
    from quantbench.comparison.table import Row
    from quantbench.runs.lab import Lab
    from quantbench.system.progress_bar import progress_bar
    from quantbench.tasks.measure import FullPrecision
    from quantbench.tasks.registry import task

    tables = [read_scores(Path(file)) for file in options.files]
    where = task(options.model, options.eval)
    if where.metric not in METRICS:
        raise BadInput(
            f"{options.model} is measured by {where.metric}, which is no mean over examples; "
            f"scores are compared by {' and '.join(METRICS)}"
        )
    lab = Lab(Path(options.runs), progress=progress_bar())
    with lab.ledger.lock():
        whole = lab.result(lab.cell(where, FullPrecision(), None, "", 0, 0))
    full = Row(options.model, "float32", whole.fp_scores)
    for scores in tables:
        title = f"{options.model} on {options.eval}, {whole.n} examples"
        ours = list(_ours(lab, where, scores))
        table = beside(scores, title, where.metric, full, ours, _labels(options.eval))
        print(table)
        path = lab.runs / "others" / f"{scores.path.stem}.json"
        table.save(path)
        print(f"kept in {path}; quantbench report shows it")
    return 0


def _ours(lab: Lab, where: Task, scores: Scores) -> Iterator[Row]:
    """Our finished runs at the bits of the file, on the same examples, best first."""
    from quantbench.comparison.table import Row

    checkpoint, _, examples = where.digests("")
    same, wanted = (where.model, where.eval_data, checkpoint, examples), scores.bits()
    found = []
    for run in lab.ledger.stored():
        about = tuple(run.fields[k] for k in ("model", "eval_data", "checkpoint", "eval_digest"))
        scheme, method, seed = run.id.split("/")[2], run.id.split("/")[3], run.fields["seed"]
        if about == same and scheme in wanted:
            name = f"{method}, seed {seed} ({run.id.rpartition('-')[2]})"
            found.append(Row(name, scheme, run.result.scores, run.result.size_bytes))
    yield from sorted(found, key=lambda row: -float(row.scores.mean()))


def _labels(name: str) -> NDArray[np.int64] | None:
    """Labels of an image set with one for each image."""
    from quantbench.data.images import images

    with suppress(BadInput):  # no image set: a text's examples
        found = images(name)
        return found.y if found.y.ndim == 1 else None
    return None
