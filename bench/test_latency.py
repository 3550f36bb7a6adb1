"""Integer networks on every runtime side by side (``quantbench latency``).

Native must be exact; goals are reported.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantbench.errors import Unsupported
from quantbench.latency.side_by_side import measure
from quantbench.latency.table import lines
from quantbench.latency.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_against_every_runtime(target: Target, request: pytest.FixtureRequest) -> None:
    """One interleaved run of all that are installed."""
    option = request.config.getoption
    threads = (
        (1,) if option("qb_threads") == 1 else (1, option("qb_threads") or os.cpu_count() or 1)
    )
    try:
        table = measure(target, seconds=option("qb_seconds"), threads=threads)
    except Unsupported as e:
        pytest.skip(str(e))
    table.save(Path(option("qb_runs")) / "latency")
    print("\n" + "\n".join(lines(table)))
