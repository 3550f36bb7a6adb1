"""Claims against the accepted ones: a claim is not made easier, or dropped, in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from quantbench.claims.claim import Claim
from quantbench.claims.gating import gating_fields
from quantbench.errors import BadInput
from quantbench.gate.accept import Reason, listed
from quantbench.gate.baseline import Baseline
from quantbench.gate.cells import ACCEPT
from quantbench.gate.finding import Finding, Status
from quantbench.runs.ledger import flat


def compare(baseline: Baseline, claims: Iterable[Claim], ran: Iterable[Claim]) -> list[Finding]:
    """What was done to accepted claims, and gating claims that ran and are not accepted.

    Args:
        baseline: what is accepted.
        claims: all that are installed, whatever was asked for.
        ran: those that have finished runs.

    """
    now = {claim.id: claim for claim in claims}
    found = []
    for name, accepted in sorted(baseline.claims.items()):
        if name not in now:
            found.append(Finding("claim", name, Status.REMOVED, ACCEPT + " --forget"))
        elif (fields := gating_fields(now[name])) != accepted["fields"]:
            detail = f"{'; '.join(changed(accepted['fields'], fields))}: {ACCEPT}"
            found.append(Finding("claim", name, Status.RETARGETED, detail))
    new = sorted(c.id for c in ran if c.gates and c.id not in baseline.claims)
    return [*found, *(Finding("claim", name, Status.NEW_CLAIM, ACCEPT) for name in new)]


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Fields that differ, one sentence each."""
    before, after = flat(old), flat(new)
    return [
        f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted({*before, *after})
        if before.get(name, "absent") != after.get(name, "absent")
    ]


def accept_claims(baseline: Baseline, claims: Iterable[Claim], reason: Reason) -> Baseline:
    """The baseline with what these claims gate by.

    Raises:
        BadInput: an accepted claim was changed, and no reason is given.

    """
    now = {c.id: gating_fields(c) for c in claims if c.gates or c.id in baseline.claims}
    known = baseline.claims
    other = {i: "claim changed" for i, f in now.items() if i in known and known[i]["fields"] != f}
    if other and not reason.why:
        raise BadInput(f'{listed(other)}: say why it is accepted, --why "..."')
    made = {
        i: {"fields": fields, "date": reason.date, "why": reason.why}
        for i, fields in now.items()
        if i not in known or i in other
    }
    return replace(baseline, claims={**known, **made})
