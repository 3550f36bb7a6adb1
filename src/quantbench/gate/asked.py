"""What a command line asks for: claims, their cells, and what is finished of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantbench.errors import DataMissing, Unsupported
from quantbench.system.progress import Progress, silent

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab
    from quantbench.runs.ledger import Stored


@dataclass(frozen=True)
class Asked:
    """A claim with its cells.

    Attributes:
        claim: that was asked for.
        own: records of its cells by seed; ``None`` where a run did not finish.
        against: those of its rival.
        ids: of all its cells.
        missing: the data that are not here, and the command that would bring them; empty if all
            are.

    """

    claim: Claim
    own: Mapping[int, Stored | None]
    against: Mapping[int, Stored | None]
    ids: tuple[str, ...]
    missing: str = ""

    @property
    def records(self) -> list[Stored]:
        """What is finished."""
        return [r for r in (*self.own.values(), *self.against.values()) if r]

    @property
    def finished(self) -> bool:
        """Whether every run is."""
        return not self.missing and len(self.records) == len(self.own) + len(self.against)


def asked(lab: Lab, claims: Iterable[Claim], progress: Progress = silent) -> list[Asked]:
    """These claims but for those with a reason to be skipped.

    Args:
        lab: where their runs are.
        claims: all that were asked for.
        progress: called with (done, total, label).

    Raises:
        BadInput: a method, option or model that does not exist.

    """
    found, wanted = [], [claim for claim in claims if not claim.skip]
    for number, claim in enumerate(wanted, start=1):
        found.append(_asked(lab, claim))
        progress(number, len(wanted), "reading finished runs")
    return found


def _asked(lab: Lab, claim: Claim) -> Asked:
    ids = tuple(lab.ids(claim))
    try:
        own, against = lab.cells(claim)
    except DataMissing as e:
        return Asked(claim, {}, {}, ids, str(e))
    except Unsupported:
        return Asked(claim, dict.fromkeys(claim.seeds), {}, ids)
    return Asked(claim, _finished(lab, own), _finished(lab, against), ids)


def _finished(lab: Lab, cells: Mapping[int, Cell]) -> dict[int, Stored | None]:
    """Records by seed, under the ids of today: a record has the one that it was stored with."""
    found = {seed: (cell.id, lab.ledger.find(cell)) for seed, cell in cells.items()}
    return {seed: run and replace(run, id=name) for seed, (name, run) in found.items()}


def made_by(lab: Lab, claims: Iterable[Claim]) -> set[str]:
    """Ids of all cells that claims make, wherever their data are."""
    return {i for claim in claims if not claim.skip for i in lab.ids(claim)}


def records(found: Sequence[Asked]) -> dict[str, Stored]:
    """Finished runs by id; several claims may share one."""
    return {r.id: r for one in found for r in one.records}
