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
        command: that would make them run; empty where none would.
        claims: them.

    """

    reason: str
    command: str
    claims: tuple[Found, ...]

    @property
    def papers(self) -> str:
        """Whose they are."""
        return ", ".join(dict.fromkeys(f.claim.paper for f in self.claims))


def skipped(every: Sequence[Found]) -> list[Skipped]:
    """By reason and command, most claims first."""
    groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in every:
        if not one.judged:
            verdict = one.row.verdict
            groups[verdict.reason, verdict.command or _command(one)].append(one)
    made = [Skipped(*about, tuple(group)) for about, group in groups.items()]
    return sorted(made, key=lambda s: -len(s.claims))


def _command(one: Found) -> str:
    """Of a claim that waits for nothing but to be run; a reason may name its own."""
    reason = one.row.verdict.reason
    if ": quantbench " in reason:
        return f"quantbench {reason.partition(': quantbench ')[2]}"
    return "" if one.claim.skip else f"quantbench run {one.claim.paper} --tier {one.claim.tier}"
