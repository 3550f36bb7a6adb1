"""Verdicts as they are printed: one word, and every part of the sum that decided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quantbench.claims.claim import Claim
from quantbench.evidence.intervals import Interval


class Outcome(StrEnum):
    """The verdicts as they are printed."""

    REPRODUCED = "REPRODUCED"
    ABOVE = "ABOVE"  # better than published by more than tolerance and sampling explain
    BELOW = "BELOW"
    WRONG_BASE = "WRONG-BASE"  # the full-precision model itself misses its published accuracy
    TIE = "TIE"  # the interval of the difference between two methods holds zero
    XFAIL = "XFAIL"
    XPASS = "XPASS"  # expected to fail, and did not: the reason is out of date
    SKIP = "SKIP"


PASSES = (Outcome.REPRODUCED, Outcome.XFAIL, Outcome.SKIP)


@dataclass(frozen=True)
class Verdict:
    """The outcome and the parts of |ours - published| <= tol + sampling.

    Attributes:
        outcome: in one word.
        gates: whether a miss fails the run.
        what: the quantity compared, such as ``drop``.
        ours: with its 95 % interval; ``None`` when skipped.
        published: the same quantity in the source; ``None`` where methods are compared.
        published_to: upper end, where the source gives a range.
        away: how much worse ours is than published; negative when it is better, 0 within a
            published range.
        tol: tolerance.
        sampling: half-width that seeds and a subset of the images account for.
        parts: a sentence for each term of ``sampling`` and for all else that the reader must know.
        reason: of SKIP, XFAIL and XPASS.
        command: what would make a skipped claim run.

    """

    outcome: Outcome
    gates: bool
    what: str = ""
    ours: Interval | None = None
    published: float | None = None
    published_to: float | None = None
    away: float = 0.0
    tol: float = 0.0
    sampling: float = 0.0
    parts: tuple[str, ...] = ()
    reason: str = ""
    command: str = ""

    @property
    def fails(self) -> bool:
        """Whether the run must end with an error because of this."""
        return self.gates and self.outcome not in PASSES

    def __str__(self) -> str:
        """Such as ``BELOW (not gating)`` or ``SKIP(no data)``."""
        reason = f"({self.reason})" if self.reason else ""
        return f"{self.outcome}{reason}" + (
            "" if self.gates or self.outcome == Outcome.SKIP else " (not gating)"
        )

    def explain(self) -> str:
        """All parts of the decision, one a line."""
        lines = [str(self)]
        if self.ours is not None:
            spread = f"{self.ours}, 95 % interval over {self.ours.n} examples"
            lines.append(f"our {self.what}: {spread if self.ours.se else f'{self.ours.value:g}'}")
        if self.published is not None:
            to = f" to {self.published_to:.2f}" if self.published_to is not None else ""
            how = "worse" if self.away > 0 else "better"
            lines.append(f"published: {self.published:.2f}{to}; ours is {abs(self.away):.2f} {how}")
            lines.append(f"allowed: tolerance {self.tol:.2f} + sampling {self.sampling:.2f}")
        lines += self.parts
        return "\n  ".join([*lines, *([f"to run it: {self.command}"] if self.command else [])])


def skipped(claim: Claim, reason: str, command: str = "") -> Verdict:
    """The verdict on a claim that could not run."""
    return Verdict(Outcome.SKIP, claim.gates, reason=reason, command=command)
