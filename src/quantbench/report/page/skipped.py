"""What did not run, why, and the command that would run it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.report.page.found import Found


@dataclass(frozen=True)
class Skipped:
    """Claims that wait for the same.

    Attributes:
        reason: why they did not run.
        commands: that would make them run; none where nothing would.
        claims: them.

    """

    reason: str
    commands: tuple[str, ...]
    claims: tuple[Found, ...]

    @property
    def papers(self) -> str:
        """Whose they are."""
        return ", ".join(dict.fromkeys(f.claim.paper for f in self.claims))


def skipped(every: Sequence[Found]) -> list[Skipped]:
    """By reason, most claims first."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for one in every:
        if not one.judged:
            groups[one.row.verdict.reason].append(one)
    made = [
        Skipped(reason, tuple(filter(None, dict.fromkeys(map(_command, group)))), tuple(group))
        for reason, group in groups.items()
    ]
    return sorted(made, key=lambda s: -len(s.claims))


def _command(one: Found) -> str:
    """What would make a claim run; a reason may name its own."""
    reason, known = one.row.verdict.reason, one.row.verdict.command
    if known:
        return known
    if ": quantbench " in reason:
        return f"quantbench {reason.partition(': quantbench ')[2]}"
    return "" if one.claim.skip else f"quantbench run {one.claim.paper} --tier {one.claim.tier}"
