"""The table of bad inputs: one row each, of every kind."""

from __future__ import annotations

from collections import Counter

from tests.reliability.corpus import (
    archives,
    baselines,
    cells,
    checkpoints,
    claims,
    data,
    latencies,
    onnx_files,
    plugins,
    programs,
    quantized,
    schemes,
    sweeps,
)
from tests.reliability.corpus.row import Bad

CORPUS: tuple[Bad, ...] = (
    *(*claims.ROWS, *schemes.ROWS, *sweeps.ROWS, *plugins.ROWS),
    *(*checkpoints.ROWS, *programs.ROWS, *quantized.ROWS, *onnx_files.ROWS),
    *(*data.ROWS, *archives.ROWS, *baselines.ROWS, *cells.ROWS, *latencies.ROWS),
)


def counts() -> dict[str, int]:
    """How many rows there are of every kind."""
    return dict(Counter(row.kind for row in CORPUS))
