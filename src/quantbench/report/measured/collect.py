"""Rows of measured claims from the finished cells of one or several folders of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from quantbench.claims.claim import Claim
from quantbench.claims.gating import gating_digest
from quantbench.errors import DataMissing, Unsupported
from quantbench.evidence.judge import judge
from quantbench.report import table
from quantbench.report.bench import Row
from quantbench.report.measured.document import Measured
from quantbench.runs.cell import Cell
from quantbench.runs.lab import Lab
from quantbench.runs.ledger import Stored
from quantbench.system.progress import Progress, silent

Finished = dict[int, Stored]  # by seed


def merged(
    known: Iterable[Measured], fresh: Iterable[Measured], claims: Iterable[Claim]
) -> list[Measured]:
    """Fresh rows, and the known ones of all other claims that still exist."""
    by_id = {claim.id: claim for claim in claims}
    rows = {row.claim: row for row in (*known, *fresh) if row.claim in by_id}
    return [row.against(by_id[row.claim]) for row in rows.values()]


def measured(
    claims: Sequence[Claim], folders: Sequence[Path], progress: Progress = silent
) -> Iterator[Measured]:
    """A row for every claim all of whose runs, and its rival's, are finished in some folder."""
    for claim, own, ours, rivals in _all_finished(claims, folders, progress):
        yield _measured(_judged(claim, own, ours, rivals), ours, rivals)


def judged(
    claims: Sequence[Claim], folders: Sequence[Path], progress: Progress = silent
) -> Iterator[Row]:
    """The same claims with their runs and verdicts."""
    for found in _all_finished(claims, folders, progress):
        yield _judged(*found)


def _all_finished(
    claims: Sequence[Claim], folders: Sequence[Path], progress: Progress
) -> Iterator[tuple[Claim, dict[int, Cell], Finished, Finished]]:
    for number, claim in enumerate(claims, start=1):
        progress(number, len(claims), "judging")
        if claim.skip:
            continue
        try:
            own, against = Lab(folders[0]).cells(claim)
        except (DataMissing, Unsupported):
            continue  # cannot have run here
        ours, rivals = _finished(own, folders), _finished(against, folders)
        if own and len(ours) == len(own) and len(rivals) == len(against):
            yield claim, own, ours, rivals


def _finished(cells: dict[int, Cell], folders: Sequence[Path]) -> Finished:
    """By seed, the latest record of each cell in any folder."""
    found = {}
    for seed, cell in cells.items():
        records = [r for folder in folders if (r := Lab(folder).ledger.find(cell))]
        if records:
            found[seed] = max(records, key=lambda record: record.made.get("at", ""))
    return found


def _judged(claim: Claim, cells: dict[int, Cell], ours: Finished, rivals: Finished) -> Row:
    """The verdict on a claim."""
    runs, against = ({s: r.result for s, r in done.items()} for done in (ours, rivals))
    return Row(claim, judge(claim, runs, against), cells, runs, 0.0, against)


def _measured(row: Row, ours: Finished, rivals: Finished) -> Measured:
    """It in words, and where and when its runs were made."""
    made = [record.made for record in (*ours.values(), *rivals.values())]
    commits = sorted({m["commit"] or "unknown" for m in made})
    machines = sorted({m.get("kind") or m["machine"] for m in made})
    return Measured(
        verdict=str(row.verdict),
        claim=row.claim.id,
        asks=row.claim.asks,
        ours=table.ours(row),
        difference=table.difference(row),
        commit=", ".join(commits),
        machine="; ".join(machines),
        date=max(m["at"] for m in made).partition(" ")[0],
        gating=gating_digest(row.claim),
    )
