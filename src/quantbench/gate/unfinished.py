"""What is accepted and has no finished run: each for a reason that is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from quantbench.gate.asked import Asked, records
from quantbench.gate.baseline import Baseline
from quantbench.gate.cells import ACCEPT
from quantbench.gate.finding import Finding, Status

NOT_FINISHED = "its run did not finish: quantbench run says why"


def unfinished(
    baseline: Baseline, found: Sequence[Asked], made: Callable[[], Iterable[str]]
) -> list[Finding]:
    """Accepted cells and claims without a finished run.

    Args:
        baseline: what is accepted.
        found: the claims that were asked for.
        made: gives the ids of all cells that any claim makes; asked only when it matters.

    """
    finished = records(found)
    here = {i for one in found if not one.missing for i in one.ids}
    away = {i: one.missing for one in found if one.missing for i in one.ids}
    left = sorted(set(baseline.cells) - set(finished))
    all_made = set(made()) if set(left) - here - set(away) else set()
    cells = [_cell(baseline, i, here, away, all_made) for i in left]
    # a claim whose cells have lines already needs none
    stopped = [one for one in found if not (one.missing or one.finished or {*one.ids} & {*left})]
    claims = [one.claim.id for one in stopped if one.claim.id in baseline.claims]
    return [*cells, *(Finding("claim", i, Status.MISSING, NOT_FINISHED) for i in claims)]


def _cell(
    baseline: Baseline, name: str, here: Iterable[str], away: dict[str, str], made: Iterable[str]
) -> Finding:
    accepted = f"accepted with {baseline.cells[name].value:.2f}"
    if name in here:
        return Finding("cell", name, Status.MISSING, f"{accepted}: {NOT_FINISHED}")
    if name in away:
        return Finding("cell", name, Status.NOT_HERE, away[name])
    if name in made:
        return Finding("cell", name, Status.ABSENT)
    gone = f"{accepted}, and no claim makes it any more: {ACCEPT} --forget"
    return Finding("cell", name, Status.ORPHANED, gone)
