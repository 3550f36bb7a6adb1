"""A number that was given against ours: the interval of their difference and what goes into it.

The number is published, or this project asks for it. Either way it is an equivalence test: the
whole interval of (ours - given) must lie within the tolerance, so that a wide interval never
passes.
"""

from __future__ import annotations

from quantbench.claims.claim import Claim
from quantbench.evidence import estimates, seeds
from quantbench.evidence.estimates import Runs
from quantbench.evidence.intervals import Interval, exact, joined
from quantbench.evidence.power import deciding
from quantbench.evidence.quantity import quantity
from quantbench.evidence.seeds import Spread
from quantbench.evidence.verdict import Outcome, Verdict, skipped

ROUNDING = 1e-9  # points; 100 * (1 - 0.99) is not 1 in binary


def judge_number(claim: Claim, runs: Runs) -> Verdict:
    """The verdict on a claim with a number.

    It is two-sided: a number far better than the paper's is not the paper's. The full-precision
    network is looked at first where the source gives its accuracy.
    """
    if wrong := _wrong_base(claim, runs):
        return wrong
    q = quantity(claim, runs)
    if q is None:
        return skipped(claim, f"the run recorded no {claim.metric}")
    images, image_part = _images(claim, q.ours)
    spread = seeds.NONE if _as_released(claim) else seeds.against_published(claim, q.values)
    low, high = q.given
    difference = joined(images, spread.half, rounding=claim.rounding, less=low)
    allowed = (-claim.tol, high - low + claim.tol)
    outcome = _word(claim, difference, allowed, more_is_better=q.more_is_better)
    unlike = "" if claim.source.reported == "project" else _unlike_the_authors(claim)
    decides = ""
    if outcome == Outcome.UNDECIDED:
        decides = what_would_decide(difference, allowed, images, spread, claim.rounding)
    rounding = f"rounding of the published number: {claim.rounding:g}" if claim.rounding else ""
    return Verdict(
        outcome,
        claim.gates,
        q.what,
        q.ours,
        low,
        high if high > low else None,
        difference,
        allowed,
        parts=tuple(part for part in (spread.said, image_part, rounding) if part),
        reason="; ".join(filter(None, (decides, unlike))),
    )


def what_would_decide(
    difference: Interval,
    allowed: tuple[float, float],
    images: Interval,
    spread: Spread,
    rounding: float = 0.0,
) -> str:
    """How many examples or seeds bring the interval to one side of the nearest end."""
    value = difference.value
    end = min(allowed, key=lambda end: abs(value - end))
    half = images.high - images.value if end > value else images.value - images.low
    return deciding(abs(value - end) - rounding, half, images.n, spread)


def _word(
    claim: Claim, difference: Interval, allowed: tuple[float, float], *, more_is_better: bool
) -> Outcome:
    """Within, wholly outside on either side, or neither."""
    low, high = allowed
    if low - ROUNDING <= difference.low and difference.high <= high + ROUNDING:
        if claim.source.reported == "project":
            return Outcome.HOLDS
        return Outcome.CONSISTENT if _unlike_the_authors(claim) else Outcome.REPRODUCED
    less, more = difference.high < low - ROUNDING, difference.low > high + ROUNDING
    if not (less or more):
        return Outcome.UNDECIDED
    if claim.source.reported == "project":
        return Outcome.MISSED
    return Outcome.ABOVE if more == more_is_better else Outcome.BELOW


def _unlike_the_authors(claim: Claim) -> str:
    """Why agreement here is no reproduction; empty if it is one."""
    part = "" if claim.data == claim.published_on else f"a part of {claim.published_on}"
    other = "another checkpoint" if claim.checkpoint == "other" else ""
    return " and ".join(filter(None, (other, part)))


def _as_released(claim: Claim) -> bool:
    """Whether the number is of a network as it was released, so that no run of ours changes it."""
    return claim.kind == "fp" or claim.checkpoint == "quantized"


def _images(claim: Claim, ours: Interval) -> tuple[Interval, str]:
    """Our number with what the sampling of images accounts for, and the sentence that says why."""
    n, whole = ours.n, claim.data == claim.published_on
    if not ours.half:
        return ours, ""
    if not whole:
        return ours, f"images: {n} of {claim.data} stand for {claim.published_on}: {ours.half:.2f}"
    if _as_released(claim) and claim.checkpoint != "other":
        said = f"images: the same network on the same {n}, nothing was sampled: 0"
        return exact(ours.value, n), said
    other = "network" if _as_released(claim) else "run"
    return ours, f"images: {n}, and another {other} is right on others: {ours.half:.2f}"


def _wrong_base(claim: Claim, runs: Runs) -> Verdict | None:
    """WRONG-BASE, if our full-precision network is not the published one."""
    if claim.fp is None or claim.kind == "fp" or claim.metric == "perplexity":
        return None
    ours = estimates.fp_accuracy(runs)
    part = claim.data != claim.published_on
    images = ours if part else exact(ours.value, ours.n)
    difference = joined(images, 0.0, less=claim.fp)
    if max(-difference.high, difference.low) <= claim.fp_tol + ROUNDING:
        return None
    what, allowed = "full-precision accuracy", (-claim.fp_tol, claim.fp_tol)
    said = (f"images: {ours.n} of {claim.data} stand for {claim.published_on}",) if part else ()
    return Verdict(
        Outcome.WRONG_BASE, claim.gates, what, ours, claim.fp, None, difference, allowed, said
    )
