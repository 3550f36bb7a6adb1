"""The judge of claims: what our runs say about a published number, or what must hold here."""

from __future__ import annotations

import math
from dataclasses import replace

from quantbench.claims.claim import Claim
from quantbench.evidence import estimates, seeds
from quantbench.evidence.estimates import Runs
from quantbench.evidence.intervals import joined
from quantbench.evidence.published import ROUNDING, judge_number, what_would_decide
from quantbench.evidence.verdict import AGREES, MISSES, Outcome, Verdict, skipped

COLLAPSED = 0.5  # of full precision: whoever keeps less is no yardstick, and the verdict says so

FEW = {1: "one seed", 2: "two seeds"}  # printed beside a comparison that has no more


def judge(claim: Claim, runs: Runs, rivals: Runs | None = None) -> Verdict:
    """The verdict on a claim.

    Args:
        claim: what was published, or must hold.
        runs: our results by seed.
        rivals: those of the claim's rival, on the same examples.

    Raises:
        BadInput: runs on different examples.

    """
    if claim.skip or not runs:
        return skipped(claim, claim.skip or "no run of it is finished")
    missing = len(set(claim.seeds) - set(runs))
    parts = (f"{missing} of {len(claim.seeds)} seeds have not run",) if missing else ()
    if claim.kind in ("beats", "order"):
        verdict = _compared(claim, runs, rivals or {})
    elif claim.kind == "max_drop":
        verdict = _limited(claim, runs)
    else:
        verdict = judge_number(claim, runs)
    return _expected(claim, replace(verdict, parts=verdict.parts + parts))


def _expected(claim: Claim, verdict: Verdict) -> Verdict:
    """The verdict in view of a known miss; what is undecided or skipped stays so."""
    if claim.xfail is None:
        return verdict
    known = replace(verdict, reason=f"{verdict.outcome}: {claim.xfail}")
    if verdict.outcome in AGREES:
        return replace(known, outcome=Outcome.XPASS)
    if verdict.outcome in MISSES:
        return replace(known, outcome=Outcome.XFAIL)
    return replace(verdict, parts=(*verdict.parts, str(claim.xfail)))


def _compared(claim: Claim, runs: Runs, rivals: Runs) -> Verdict:
    """Better than the rival, by an interval that excludes zero; worse; or neither."""
    if not rivals:
        return skipped(claim, "its rival has no finished run")
    images = estimates.advantage(runs, rivals)
    spread = seeds.between([r.drop for r in runs.values()], [r.drop for r in rivals.values()])
    advantage = joined(images, spread.half)
    outcome = Outcome.BEHIND if advantage.high < 0 else Outcome.TIE
    if advantage.low > 0:
        outcome = Outcome.AHEAD
    kept, other = _kept(rivals), f"the rival's drop: {estimates.drop(rivals)}"
    fallen = f"the rival keeps {kept:.0%} of full precision" if kept < COLLAPSED else ""
    return Verdict(
        outcome,
        claim.gates,
        "drop",
        estimates.drop(runs),
        difference=advantage,
        parts=(other, f"images: {images.n}, paired: {images.half:.2f}", spread.said),
        reason="; ".join(filter(None, (FEW.get(min(len(runs), len(rivals))), fallen))),
    )


def _kept(runs: Runs) -> float:
    """What quantization left of the full-precision metric, as a fraction."""
    full = sum(r.fp_top1 for r in runs.values())
    return sum(r.q_top1 for r in runs.values()) / full if full > 0 else 1.0


def _limited(claim: Claim, runs: Runs) -> Verdict:
    """At most the limit: all of the interval must keep it."""
    ours, limit = estimates.drop(runs), claim.value or 0.0
    spread = seeds.of_the_mean([r.drop for r in runs.values()])
    difference = joined(ours, spread.half, less=limit)
    allowed = (-math.inf, claim.tol)
    outcome, reason = Outcome.UNDECIDED, ""
    if difference.high <= claim.tol + ROUNDING:
        outcome = Outcome.HOLDS
    elif difference.low > claim.tol + ROUNDING:
        outcome = Outcome.MISSED
    else:
        reason = what_would_decide(difference, allowed, ours, spread)
    parts = (f"images: {ours.n}, paired: {ours.half:.2f}", spread.said)
    return Verdict(
        outcome, claim.gates, "drop", ours, limit, None, difference, allowed, parts, reason
    )
