"""What a run leaves for its readers: the terminal's table, Markdown, one HTML page, and MLflow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quantbench import table
from quantbench.errors import CannotWrite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quantbench.pytest_plugin import Bench


def write(bench: Bench) -> list[str]:
    """Write ``report/index.html`` and ``report/summary.md`` below the runs; returns the lines for the terminal."""
    from quantbench import html, latencypage
    from quantbench.atomic import write_atomically

    folder, get = bench.lab.runs / "report", bench.lab.ledger.get
    rows = [replace(r, runs={s: get(r.cells[s]) or found for s, found in r.runs.items()}) for r in bench.rows]
    write_atomically(folder / "summary.md", table.markdown(rows))
    latency = latencypage.NAME if (folder / latencypage.NAME).exists() else ""
    write_atomically(folder / "index.html", html.page(rows, latency=latency))
    return [*table.terminal(rows), f"report: {folder / 'index.html'}", _track(bench)]


def _track(bench: Bench) -> str:
    """Bring MLflow up to date; a machine without it keeps everything else."""
    from quantbench import latencytrack, track

    ledger, runs = bench.lab.ledger, bench.lab.runs
    stored = {cell.key(): (paper, ledger.find(cell)) for paper, cell in bench.cells}

    def upload() -> None:
        track.upload(runs, ((paper, found) for paper, found in stored.values() if found))
        latencytrack.upload(runs)

    return recorded(runs, upload)


def recorded(runs: Path, upload: Callable[[], object]) -> str:
    """Upload to MLflow; the line that says how to see it, or why nothing was recorded."""
    try:
        upload()
    except CannotWrite as e:
        return f"MLflow: not recorded: {e}"
    except ImportError as e:
        return f"MLflow: not recorded, since {e.name} is not installed"
    return f"MLflow: mlflow ui --backend-store-uri sqlite:///{runs / 'mlflow.db'}"
