"""What a run leaves for its readers: the terminal's table, Markdown, one HTML page, and MLflow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quantbench.errors import CannotWrite
from quantbench.report import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from quantbench.report.bench import Row
    from quantbench.runs.cell import Cell
    from quantbench.runs.ledger import Ledger


def write(
    runs: Path, rows: Sequence[Row], ledger: Ledger, cells: Iterable[tuple[str, Cell]]
) -> list[str]:
    """Write ``report/index.html`` and ``report/summary.md``, and bring MLflow up to date.

    Args:
        runs: folder of everything that runs leave behind.
        rows: verdicts.
        ledger: finished cells.
        cells: papers and cells that belong into MLflow.

    Returns:
        the lines for the terminal.

    """
    from quantbench.report import latency_page, page
    from quantbench.report.plots.drawing import Drawings
    from quantbench.system.atomic import write_atomically

    folder = runs / "report"
    rows = [_timed(row, ledger) for row in rows]
    write_atomically(folder / "summary.md", table.markdown(rows))
    latency = latency_page.NAME if (folder / latency_page.NAME).exists() else ""
    drawings = Drawings(folder / "plots")
    write_atomically(folder / "index.html", page.page(rows, latency=latency, draw=drawings.svg))
    drawings.prune()
    done = f"report: {folder / 'index.html'}"
    return [*table.terminal(rows), done, _track(runs, ledger, cells)]


def _timed(row: Row, ledger: Ledger) -> Row:
    """The row with results as the ledger has them now: latency is measured after the verdict."""
    runs = {seed: ledger.get(row.cells[seed]) or found for seed, found in row.runs.items()}
    return replace(row, runs=runs)


def _track(runs: Path, ledger: Ledger, cells: Iterable[tuple[str, Cell]]) -> str:
    """Bring MLflow up to date; a machine without it keeps everything else."""
    from quantbench.report import latency_tracking, tracking

    stored = {cell.key(): (paper, ledger.find(cell)) for paper, cell in cells}

    def upload() -> None:
        tracking.upload(runs, ((paper, found) for paper, found in stored.values() if found))
        latency_tracking.upload(runs)

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
