"""The verdicts on what is finished: a gating claim that is missed fails the gate as well."""

from __future__ import annotations

from collections.abc import Iterable

from quantbench.evidence.judge import judge
from quantbench.gate.asked import Asked
from quantbench.gate.finding import Finding, Status


def judged(found: Iterable[Asked]) -> list[Finding]:
    """Gating claims that are missed or undecided, of those with every run finished."""
    findings = []
    for one in found:
        if not (one.claim.gates and one.finished):
            continue
        own, against = (
            {s: r.result for s, r in runs.items() if r} for runs in (one.own, one.against)
        )
        verdict = judge(one.claim, own, against)
        detail = verdict.explain().replace("\n", ";")
        if verdict.undecided:
            findings.append(Finding("claim", one.claim.id, Status.UNDECIDED, detail))
        elif verdict.fails:
            findings.append(Finding("claim", one.claim.id, Status.MISSED, detail))
    return findings
