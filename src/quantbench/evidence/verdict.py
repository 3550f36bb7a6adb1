"""Verdicts as they are printed: one word, and every part of the sum that decided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quantbench.claims.claim import Claim
from quantbench.evidence.intervals import Interval


class Outcome(StrEnum):
    """The verdicts as they are printed, by what was asked."""

    # a published number
    REPRODUCED = "REPRODUCED"  # on the authors' own network and all of their evaluation set
    CONSISTENT = "CONSISTENT"  # the same agreement on another network or on a part of the set
    BELOW = "BELOW"
    ABOVE = "ABOVE"  # better than published by more than the tolerance
    WRONG_BASE = "WRONG-BASE"  # the full-precision model itself misses its published accuracy
    # a requirement of this project
    HOLDS = "HOLDS"
    MISSED = "MISSED"
    # a comparison with a rival
    AHEAD = "AHEAD"
    TIE = "TIE"  # the interval of the advantage holds zero
    BEHIND = "BEHIND"
    # any claim
    UNDECIDED = "UNDECIDED"  # the interval reaches over the end of what is allowed
    XFAIL = "XFAIL"  # a known miss
    XPASS = "XPASS"  # a known miss that passes now: its cause is out of date
    REFUSED = "REFUSED"  # the method or the lowering does not support what the claim asks
    SKIP = "SKIP"


AGREES = (Outcome.REPRODUCED, Outcome.CONSISTENT, Outcome.HOLDS, Outcome.AHEAD)

OPEN = (Outcome.UNDECIDED, Outcome.XFAIL, Outcome.SKIP)  # neither pass nor miss

MISSES = tuple(o for o in Outcome if o not in AGREES + OPEN)


@dataclass(frozen=True)
class Verdict:
    """The outcome, and the interval that had to lie within what is allowed.

    Attributes:
        outcome: in one word.
        gates: whether a miss fails the run.
        what: the quantity measured, such as ``drop``.
        ours: our quantity with the sampling of its images; ``None`` when skipped.
        published: the same quantity in the source, or the limit; ``None`` where methods are
            compared.
        published_to: upper end, where the source gives a range.
        difference: ours less ``published``, or the advantage over the rival, with images, seeds and
            the rounding of the published number in its 95 % interval: what decides.
        allowed: where the difference must lie.
        parts: a sentence for each source of error and for all else that the reader must know.
        reason: of the outcome, where the word alone does not say enough.
        command: what would make a skipped claim run.

    """

    outcome: Outcome
    gates: bool
    what: str = ""
    ours: Interval | None = None
    published: float | None = None
    published_to: float | None = None
    difference: Interval | None = None
    allowed: tuple[float, float] | None = None
    parts: tuple[str, ...] = ()
    reason: str = ""
    command: str = ""

    @property
    def fails(self) -> bool:
        """Whether the run must end with an error because of this."""
        return self.gates and self.outcome in MISSES

    @property
    def undecided(self) -> bool:
        """Whether something rests on it, and it has neither passed nor failed."""
        return self.gates and self.outcome == Outcome.UNDECIDED

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
            lines.append(f"asked: {self.published:.2f}{to}")
        if self.difference is not None:
            lines.append(f"{self.difference_is}: {self.difference.signed()}{self._where()}")
        lines += self.parts
        return "\n  ".join([*lines, *([f"to run it: {self.command}"] if self.command else [])])

    @property
    def difference_is(self) -> str:
        """What the difference is of."""
        return "advantage over the rival" if self.published is None else "ours - asked"

    def _where(self) -> str:
        """Where it must lie."""
        if self.allowed is None:
            return ", must lie above 0"
        low, high = self.allowed
        if low == float("-inf"):
            return f", must lie at or below {high:+.2f}"
        return f", must lie within {low:+.2f} and {high:+.2f}"


def skipped(claim: Claim, reason: str, command: str = "") -> Verdict:
    """The verdict on a claim that could not run."""
    return Verdict(Outcome.SKIP, claim.gates, reason=reason, command=command)


def refused(claim: Claim, reason: str) -> Verdict:
    """The verdict on a claim that should run, and that our own code does not support."""
    return Verdict(Outcome.REFUSED, claim.gates, reason=reason)
