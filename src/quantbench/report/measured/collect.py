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

Finished = dict[int, Stored]  # by seed


def merged(
    known: Iterable[Measured], fresh: Iterable[Measured], claims: Iterable[Claim]
) -> list[Measured]:
    """Fresh rows, and the known ones of all other claims that still exist."""
    by_id = {claim.id: claim for claim in claims}
    rows = {row.claim: row for row in (*known, *fresh) if row.claim in by_id}
    return [row.against(by_id[row.claim]) for row in rows.values()]


def measured(claims: Iterable[Claim], folders: Sequence[Path]) -> Iterator[Measured]:
    """A row for every claim all of whose runs, and its rival's, are finished in some folder."""
    for claim in claims:
        if claim.skip:
            continue
        try:
            own, against = Lab(folders[0]).cells(claim)
        except (DataMissing, Unsupported):
            continue  # cannot have run here
        ours, rivals = _finished(own, folders), _finished(against, folders)
        if own and len(ours) == len(own) and len(rivals) == len(against):
            yield _row(claim, own, ours, rivals)


def _finished(cells: dict[int, Cell], folders: Sequence[Path]) -> Finished:
    """By seed, the latest record of each cell in any folder."""
    found = {}
    for seed, cell in cells.items():
        records = [r for folder in folders if (r := Lab(folder).ledger.find(cell))]
        if records:
            found[seed] = max(records, key=lambda record: record.made["at"])
    return found


def _row(claim: Claim, cells: dict[int, Cell], ours: Finished, rivals: Finished) -> Measured:
    """The verdict on a claim, and where and when its runs were made."""
    runs, against = ({s: r.result for s, r in done.items()} for done in (ours, rivals))
    verdict = judge(claim, runs, against)
    row = Row(claim, verdict, cells, runs, 0.0, against)
    made = [record.made for record in (*ours.values(), *rivals.values())]
    commits = sorted({m["commit"] or "unknown" for m in made})
    machines = sorted({m.get("kind") or m["machine"] for m in made})
    return Measured(
        verdict=str(verdict),
        claim=claim.id,
        asks=claim.asks,
        ours=table.ours(row),
        difference=table.difference(row),
        commit=", ".join(commits),
        machine="; ".join(machines),
        date=max(m["at"] for m in made).partition(" ")[0],
        gating=gating_digest(claim),
    )
