"""The commands ``gate`` and ``accept``: finished runs against ``reference/baseline.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from quantbench.data.roots import clone_root
from quantbench.errors import BadInput, DataMissing, Unsupported
from quantbench.runs.baseline import Baseline, Change
from quantbench.runs.ledger import Stored
from quantbench.runs.pace import Pace


def gate(
    runs: Path,
    papers: Sequence[str],
    expression: str,
    path: Path | None = None,
    *,
    tier: str | None = None,
) -> int:
    """``quantbench gate``: finished runs against the baseline; 1 if any changed, else 0."""
    cells, baseline = _cells(runs, papers, expression, tier), Baseline.read(path or _path())
    records = _finished(cells, runs)
    changes: list[Change | Pace] = [
        *baseline.compare(records, cells),
        *baseline.compare_latency(records),
    ]
    for found in changes:
        if found.status not in ("identical", "absent"):
            print(found)
    counts = sorted(Counter(found.status for found in changes).items())
    print(f"{len(records)} finished runs: " + ", ".join(f"{n} {status}" for status, n in counts))
    failing = sum(found.fails for found in changes)
    if failing:
        print(
            f"{failing} changed or missing: "
            "mend them, or make them the baseline with quantbench accept"
        )
    return 1 if failing else 0


def accept(
    runs: Path,
    papers: Sequence[str],
    expression: str,
    path: Path | None = None,
    *,
    tier: str | None = None,
) -> int:
    """``quantbench accept``: make finished runs the baseline."""
    records, path = _finished(_cells(runs, papers, expression, tier), runs), path or _path()
    Baseline.read(path).accept(records, path)
    print(f"{path}: {len(records)} runs accepted")
    return 0


def _path() -> Path:
    return clone_root() / "reference" / "baseline.json"


def _cells(
    runs: Path, papers: Sequence[str], expression: str, tier: str | None
) -> dict[str, Stored | None]:
    """Cells of the selected claims that can run here, by id, with what is finished of them."""
    from quantbench.claims.select import chosen
    from quantbench.runs.lab import Lab

    lab = Lab(runs)
    found: dict[str, Stored | None] = {}
    for claim in chosen(papers, expression, tier):
        if claim.skip:
            continue
        try:
            own, against = lab.cells(claim)
        except (DataMissing, Unsupported):
            continue  # cannot have run here
        found |= {cell.id: lab.ledger.find(cell) for cell in (*own.values(), *against.values())}
    return found


def _finished(cells: Mapping[str, Stored | None], runs: Path) -> list[Stored]:
    """Those that are finished."""
    found = [record for record in cells.values() if record]
    if not found:
        raise BadInput(f"no finished run of these claims in {runs}: quantbench run makes some")
    return found
