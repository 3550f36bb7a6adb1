"""Drop what no claim makes any more from the baseline: with a reason, which stays in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quantbench.errors import BadInput
from quantbench.gate.accept import Reason
from quantbench.gate.baseline import Baseline


def forget(
    baseline: Baseline, ids: Iterable[str], claims: Iterable[str], reason: Reason
) -> Baseline:
    """The baseline without accepted cells and claims that do not exist any more.

    Args:
        baseline: what is accepted.
        ids: of all cells that claims make.
        claims: ids of all claims.
        reason: must be given.

    Raises:
        BadInput: no reason.

    """
    if not reason.why:
        raise BadInput('what is forgotten needs a reason: --why "..."')
    cells = sorted(set(baseline.cells) - set(ids))
    gone = sorted(set(baseline.claims) - set(claims))
    noted: list[Mapping[str, Any]] = [
        {"name": i, "value": baseline.cells[i].value, "date": reason.date, "why": reason.why}
        for i in cells
    ]
    noted += [{"name": i, "date": reason.date, "why": reason.why} for i in gone]
    return Baseline(
        {i: c for i, c in baseline.cells.items() if i not in cells},
        {i: c for i, c in baseline.claims.items() if i not in gone},
        (*baseline.forgotten, *noted),
    )
