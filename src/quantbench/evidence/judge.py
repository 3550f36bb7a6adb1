"""The judge of claims: what our runs say about a published number, or what must hold here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from quantbench.claims.claim import PERCENT, Claim
from quantbench.evidence import estimates
from quantbench.evidence.estimates import Runs
from quantbench.evidence.intervals import Interval, prediction_half, welch_half
from quantbench.evidence.verdict import Outcome, Verdict, skipped

ROUNDING = 1e-9  # points; 100 * (1 - 0.99) is not 1 in binary

MORE_IS_BETTER = ("top1_gain", "int4_layers", *PERCENT)


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
    elif claim.kind == "fp":
        verdict = _base(claim, runs, claim.value or 0.0, claim.tol, claim.value_to)
    else:
        verdict = _published(claim, runs)
    return _expected(claim, replace(verdict, parts=verdict.parts + parts))


def _expected(claim: Claim, verdict: Verdict) -> Verdict:
    """The verdict in view of what was expected."""
    if not claim.xfail or verdict.outcome == Outcome.SKIP:
        return verdict
    outcome = Outcome.XPASS if verdict.outcome == Outcome.REPRODUCED else Outcome.XFAIL
    return replace(verdict, outcome=outcome, reason=f"{verdict.outcome}: {claim.xfail}")


def _compared(claim: Claim, runs: Runs, rivals: Runs) -> Verdict:
    """Better than the rival, by an interval that excludes zero; worse; or neither."""
    if not rivals:
        return skipped(claim, "its rival has no finished run")
    ours = estimates.advantage(runs, rivals)
    outcome = Outcome.BELOW if ours.high < 0 else Outcome.TIE
    if ours.low > 0:
        outcome = Outcome.REPRODUCED
    own, other = estimates.drop(runs), estimates.drop(rivals)
    parts = (f"our drop: {own}", f"the rival's drop: {other}")
    return Verdict(outcome, claim.gates, "advantage", ours, parts=parts)


def _limited(claim: Claim, runs: Runs) -> Verdict:
    """At most the limit. The estimate itself must keep it: no interval, however wide, excuses."""
    ours, limit = estimates.drop(runs), claim.value or 0.0
    outcome = Outcome.REPRODUCED if ours.value <= limit + claim.tol + ROUNDING else Outcome.BELOW
    return Verdict(
        outcome, claim.gates, "drop", ours, limit, away=ours.value - limit, tol=claim.tol
    )


def _base(
    claim: Claim, runs: Runs, published: float, tol: float, to: float | None = None
) -> Verdict:
    """REPRODUCED, or WRONG-BASE if our full-precision network is not the published one."""
    ours = estimates.fp_accuracy(runs)
    sampling, parts = _images(claim, ours)
    high = published if to is None else to
    # 0 within a published range
    away = max(published - ours.value, 0.0) + min(high - ours.value, 0.0)
    outcome = Outcome.REPRODUCED if abs(away) <= tol + sampling + ROUNDING else Outcome.WRONG_BASE
    what = "full-precision accuracy"
    return Verdict(outcome, claim.gates, what, ours, published, to, away, tol, sampling, parts)


def _published(claim: Claim, runs: Runs) -> Verdict:
    """|ours - published| <= tol + sampling.

    Two-sided: a number far better than the paper's is not the paper's.
    """
    if claim.fp is not None and claim.metric != "perplexity":
        base = _base(claim, runs, claim.fp, claim.fp_tol)
        if base.outcome == Outcome.WRONG_BASE:
            return base
    q = _quantity(claim, runs)
    if q is None:
        return skipped(claim, f"the run recorded no {claim.metric}")
    seeds, seed_part = _seeds(claim, q.values)
    images, image_parts = _images(claim, q.ours)
    sampling = math.hypot(seeds, images)  # independent
    low, *to = q.published
    high = to[0] if to else low
    beyond = max(q.ours.value - high, 0.0) + min(q.ours.value - low, 0.0)
    away = -beyond if q.more_is_better else beyond
    fits = abs(away) <= claim.tol + sampling + ROUNDING
    outcome = Outcome.REPRODUCED if fits else Outcome.BELOW if away > 0 else Outcome.ABOVE
    parts = (seed_part, *image_parts)
    end = high if to else None
    return Verdict(outcome, claim.gates, q.what, q.ours, low, end, away, claim.tol, sampling, parts)


@dataclass(frozen=True)
class _Quantity:
    """What of our runs is compared with what of the source.

    ``values`` are by seed, ``published`` is a number or a range.
    """

    what: str
    ours: Interval
    values: list[float]
    published: tuple[float, ...]
    more_is_better: bool


def _quantity(claim: Claim, runs: Runs) -> _Quantity | None:
    """The drop wherever the source gives one, else the metric; ``None`` if no run recorded it."""
    given = tuple(v for v in (claim.value, claim.value_to) if v is not None)
    measured = next(iter(runs.values())).metric
    if claim.metric in (measured, f"{measured}_drop"):
        if claim.drop is None:
            accuracies = [r.q_top1 for r in runs.values()]
            return _Quantity(
                "accuracy", estimates.accuracy(runs), accuracies, given, more_is_better=True
            )
        is_drop = claim.metric.endswith("_drop")
        published = given if is_drop else tuple(sorted((claim.fp or 0.0) - v for v in given))
        drops = [r.drop for r in runs.values()]
        return _Quantity("drop", estimates.drop(runs), drops, published, more_is_better=False)
    values = [float(r.extra[claim.metric]) for r in runs.values() if claim.metric in r.extra]
    if len(values) < len(runs):
        return None
    mean = float(np.mean(values))
    alone = Interval(mean, mean, mean, 0.0, len(values))
    return _Quantity(
        claim.metric, alone, values, given, more_is_better=claim.metric in MORE_IS_BETTER
    )


def _seeds(claim: Claim, values: list[float]) -> tuple[float, str]:
    """Half-width that the choice of seeds accounts for, and the sentence that says how."""
    k, s = len(values), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if claim.sd is not None and claim.runs is not None and claim.runs > 1:
        half = welch_half(values, claim.sd, claim.runs)
        theirs = f"published sd {claim.sd:g} over {claim.runs} runs"
        return half, f"seeds: {k} of ours with sd {s:.2f}, {theirs}: {half:.2f} (Welch)"
    if k > 1:
        half = prediction_half(values)
        said = f"seeds: {k} of ours with sd {s:.2f}, one published number: {half:.2f}"
        return half, f"{said} (t sqrt(1 + 1/{k}) sd)"
    if claim.sd is not None:  # over an unknown number of runs: two single runs with that spread
        half = 1.96 * math.sqrt(2) * claim.sd
        return half, f"seeds: one of ours, published sd {claim.sd:g}: {half:.2f} (1.96 sqrt(2) sd)"
    return 0.0, "seeds: one of ours and one published number, spread unknown: 0"


def _images(claim: Claim, ours: Interval) -> tuple[float, tuple[str, ...]]:
    """Half-width that measuring on a part of the published set accounts for; 0 on all of it."""
    if claim.data == claim.published_on:
        return 0.0, ()
    return ours.half, (
        f"images: {ours.n} of {claim.data} stand for {claim.published_on}: {ours.half:.2f}",
    )
