"""What a run leaves for its readers: the terminal's table, Markdown, one HTML page, and MLflow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput, CannotWrite, QuantbenchError
from quantbench.report import table
from quantbench.system.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from quantbench.comparison.table import Comparison
    from quantbench.gate.baseline import Baseline
    from quantbench.latency.table import Table
    from quantbench.report.bench import Row
    from quantbench.report.measured.document import Measured
    from quantbench.report.page.build import About
    from quantbench.report.page.reliability import Reliability
    from quantbench.runs.cell import Cell
    from quantbench.runs.ledger import Ledger


def write(
    runs: Path,
    rows: Sequence[Row],
    ledger: Ledger,
    cells: Iterable[tuple[str, Cell]],
    progress: Progress = silent,
) -> Generator[str, None, bool]:
    """Write ``report/index.html`` and ``report/summary.md``, and bring MLflow up to date.

    The verdicts come first, before anything is written; what cannot be written is a line, so that
    no error of a page costs a verdict.

    Args:
        runs: folder of everything that runs leave behind.
        rows: verdicts.
        ledger: finished cells.
        cells: papers and cells that belong into MLflow.
        progress: called with (done, total, label).

    Yields:
        the lines for the terminal; what they say of is done as they are taken.

    Returns:
        whether the system took the report.

    """
    rows = [_timed(row, ledger) for row in rows]
    yield from table.terminal(rows)
    line, written = _done("report", lambda: _page(runs, rows, progress))
    yield line
    line, _ = _done("MLflow", lambda: _track(runs, ledger, cells, progress))
    yield line
    return written


def _done(what: str, make: Callable[[], str]) -> tuple[str, bool]:
    """The line that says so, or what failed; and whether the system let it."""
    try:
        return make(), True
    except QuantbenchError as e:  # finished cells are kept; quantbench report writes it again
        return f"quantbench: no {what}: {e}", False
    except Exception as e:  # noqa: BLE001 - a defect of the page leaves the verdicts as they are
        why = " ".join(str(e).split())
        return f"quantbench: no {what}: {type(e).__name__}: {why}", True


def _page(runs: Path, rows: Sequence[Row], progress: Progress) -> str:
    """Write the summary and the page; the line that names it."""
    from quantbench.report import latency_page
    from quantbench.report.page.build import page
    from quantbench.report.page.found import found
    from quantbench.runs.lab import Lab
    from quantbench.system.atomic import write_atomically

    folder, lab = runs / "report", Lab(runs)
    write_atomically(folder / "summary.md", table.markdown(rows))
    with suppress(BadInput):  # a file that is no table: quantbench latency names it
        latency_page.write(runs)
    every = found(rows, _baseline(), lab, progress)
    text = page(every, lab, _about(folder), _tables(runs), _others(runs), progress)
    write_atomically(folder / "index.html", text)
    return f"report: {folder / 'index.html'}"


def _baseline() -> Baseline:
    """What is accepted, where there is a clone; a damaged file is the gate's business."""
    from quantbench.data.roots import clone_root, in_clone
    from quantbench.gate.baseline import Baseline

    path = clone_root() / "reference" / "baseline.json"
    with suppress(BadInput):
        return Baseline.read(path) if in_clone() else Baseline()
    return Baseline()


def _about(folder: Path) -> About:
    """Where and from which code the page is written."""
    from quantbench.report import latency_page
    from quantbench.report.page.build import About
    from quantbench.system.machine import fingerprint, git_commit

    latency = latency_page.NAME if (folder / latency_page.NAME).exists() else ""
    about = git_commit(Path(__file__).parent), fingerprint(), latency
    return About(*about, _measured(), _reliability())


def _measured() -> list[Measured]:
    """Verdicts that git keeps, where there is a clone; a damaged file has a test of its own."""
    from quantbench.data.roots import clone_root, in_clone
    from quantbench.report.measured.document import read

    path = clone_root() / "reference" / "measured.md"
    if in_clone() and path.exists():
        with suppress(BadInput):
            return read(path)
    return []


def _reliability() -> Reliability:
    """Figures that git keeps, where there is a clone."""
    from quantbench.data.roots import clone_root, in_clone
    from quantbench.report.page.reliability import Reliability, of_markdown

    if in_clone():
        with suppress(OSError, UnicodeDecodeError):
            text = (clone_root() / "docs" / "reliability.md").read_text(encoding="utf-8")
            return of_markdown(text)
    return Reliability()


def _tables(runs: Path) -> list[Table]:
    """What ``quantbench latency`` measured; other files are that command's business."""
    from quantbench.latency.table import Table

    found = []
    for path in sorted((runs / "latency").glob("*.json")):
        with suppress(BadInput):
            found.append(Table.load(path))
    return found


def _others(runs: Path) -> list[Comparison]:
    """What ``quantbench onnx`` and ``quantbench import`` kept; a damaged file is shown nowhere."""
    from quantbench.comparison.table import Comparison

    found = []
    for path in sorted([*(runs / "onnx").glob("*.json"), *(runs / "others").glob("*.json")]):
        with suppress(BadInput):
            found.append(Comparison.load(path))
    return found


def _timed(row: Row, ledger: Ledger) -> Row:
    """The row with results as the ledger has them now: latency is measured after the verdict."""
    if row.claim.scheme is None or row.claim.scheme.placement != "integer":
        return row  # nothing of it is timed
    with suppress(BadInput):  # a record that cannot be read: the verdict stands
        runs = {seed: ledger.get(row.cells[seed]) or found for seed, found in row.runs.items()}
        return replace(row, runs=runs)
    return row


def _track(
    runs: Path, ledger: Ledger, cells: Iterable[tuple[str, Cell]], progress: Progress
) -> str:
    """Bring MLflow up to date; a machine without it keeps everything else."""
    from quantbench.report import latency_tracking, tracking

    unique = {cell.key(): (paper, cell) for paper, cell in cells}  # claims share them
    stored = ((paper, ledger.find(cell)) for paper, cell in unique.values())

    def upload() -> None:
        tracking.upload(runs, ((paper, found) for paper, found in stored if found), progress)
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
