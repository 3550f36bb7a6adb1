"""The table of verdicts, for the terminal and as Markdown."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quantbench.evidence.verdict import MISSES, OPEN, Outcome
from quantbench.system.markdown import cell, escaped
from quantbench.system.text_table import WIDTH, text_table

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.evidence.verdict import Verdict
    from quantbench.report.bench import Row


HEADER = ("verdict", "claim", "asks (drop)", "ours (drop) [95 %]", "difference [95 %]")

LEAST = (17, 31, 14, 16, 16)  # columns of each of these

LONGEST = 100  # columns of a skip's reason

REASON = 80  # and of a verdict's, in a table; the page has it in full

ROWS = 200  # of the Markdown summary: GitHub cuts a file off at 1 MiB


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, column by column."""
    fast = latency(row)
    found = "\n".join(filter(None, (ours(row), fast)))
    return short(row.verdict), row.claim.id, row.claim.asks, found, difference(row)


def short(verdict: Verdict) -> str:
    """A verdict with as much of its reason as a table has room for."""
    reason = _cut(verdict.reason, REASON)
    gates = "" if verdict.gates or verdict.outcome == Outcome.SKIP else " (not gating)"
    return f"{verdict.outcome}{f'({reason})' if reason else ''}{gates}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def scheme(claim: Claim) -> str:
    """Short name of a claim's scheme."""
    named = claim.scheme and claim.id.count("/") > 1
    return claim.id.split("/")[-2] if named else str(claim.scheme or "fp32")


def ours(row: Row) -> str:
    """Our accuracy and drop, and the interval that the sampling of images gives one of them."""
    if not row.runs:
        return ""
    accuracy = statistics.fmean(r.q_top1 for r in row.runs.values())
    drop = statistics.fmean(r.drop for r in row.runs.values())
    found, what = row.verdict.ours, row.verdict.what
    if not row.claim.method or what == "accuracy":  # there was no drop to compare
        return f"{accuracy:.2f}" + (f" [{found.low:.2f}, {found.high:.2f}]" if found else "")
    text = f"{accuracy:.2f} ({drop:+.2f})"
    if not found:
        return text
    compared = "" if what == "drop" else f" {what}"
    return f"{text}{compared} [{found.low:+.2f}, {found.high:+.2f}]"


def difference(row: Row) -> str:
    """What decides: ours less what is asked, or the advantage over the rival."""
    found = row.verdict.difference
    if found is None:
        return ""
    return f"{'advantage ' if row.verdict.published is None else ''}{found.signed()}"


def latency(row: Row) -> str:
    """Fastest exact backend at batch 1, in milliseconds and against float32."""
    timed = [t for r in row.runs.values() for t in r.latency if t.batch == 1]
    if not timed:
        return ""
    best = min(timed, key=lambda t: t.percentile(50))
    ratio = statistics.median(best.reference_ms) / best.percentile(50) if best.reference_ms else 0.0
    times = f" ({ratio:.1f}x fp32)" if ratio else ""
    return f"{best.percentile(50):.3g} ms {best.backend}{times}"


def terminal(rows: Sequence[Row], width: int = WIDTH) -> list[str]:
    """A table of claims, misses last, where the eye is; skipped ones are counted by reason.

    Args:
        rows: verdicts.
        width: columns that no line passes.

    """
    ran = [row for row in rows if row.verdict.outcome != Outcome.SKIP]
    lines = _table(sorted(ran, key=_urgency, reverse=True), width) if ran else []
    skips = [line for text in _skips(rows) for line in textwrap.wrap(text, width, **_WRAPPED)]
    total = textwrap.wrap(summary(rows), width)
    return [*total, *lines, *skips, *total]


_WRAPPED: dict[str, Any] = {"subsequent_indent": " " * 11, "break_on_hyphens": False}


def _urgency(row: Row) -> int:
    """Order of the verdicts, what is to be looked at first."""
    outcome = row.verdict.outcome
    return 0 if outcome in MISSES else 1 if outcome in OPEN else 2


def _table(rows: Iterable[Row], width: int) -> list[str]:
    """Lines of a table as wide as the terminal allows."""
    head = [name.replace(" [", "\n[") for name in HEADER]
    return text_table(head, (list(_narrow(cells(row))) for row in rows), LEAST, width=width)


def _narrow(texts: Sequence[str]) -> Iterator[str]:
    """Cells in lines that break where a reader would: before an interval, before a scheme."""
    verdict, claim, *rest = texts
    model, scheme, tail = claim.rsplit("/", 2) if claim.count("/") > 1 else (claim, "", "")
    yield textwrap.fill(verdict, 17, break_long_words=False)
    yield f"{model}/\n{scheme}/{tail}" if tail else claim
    for text in rest:
        yield text.replace(" [", "\n[").replace("advantage ", "advantage\n")


def _skips(rows: Iterable[Row]) -> list[str]:
    """How many claims wait for what, and what would make them run."""
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.verdict.outcome == Outcome.SKIP:
            key = (row.verdict.reason, row.verdict.command)
            reasons[key] = reasons.get(key, 0) + 1
    return [
        f"SKIP {count:>4}  {_cut(why, LONGEST)}" + (f"  ->  {command}" if command else "")
        for (why, command), count in sorted(reasons.items(), key=lambda kv: -kv[1])
    ]


def summary(rows: Sequence[Row]) -> str:
    """Counts of every verdict, and how many fail the run or leave it undecided."""
    counts = {o: sum(row.verdict.outcome == o for row in rows) for o in Outcome}
    text = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
    misses = sum(row.verdict.fails for row in rows)
    undecided = sum(row.verdict.undecided for row in rows)
    return f"{text}  (gating: {misses} missed, {undecided} undecided)"


def markdown(rows: Sequence[Row]) -> str:
    """A summary for a CI's page: what is missed or open, then the rest folded away."""
    ran = sorted((r for r in rows if r.verdict.outcome != Outcome.SKIP), key=_urgency)
    loud = [row for row in ran if _urgency(row) < 2]
    parts = [summary(rows), "", *_markdown(loud)]
    if quiet := ran[len(loud) :]:
        parts += _folded(f"{len(quiet)} that agree", _markdown(quiet))
    if skips := [f"- {escaped(text)}" for text in _skips(rows)]:
        parts += _folded("what is skipped, and why", skips)
    return "\n".join([*parts, ""])


def _folded(title: str, lines: Iterable[str]) -> list[str]:
    """Lines that a click shows; GitHub reads Markdown within HTML behind an empty line."""
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _markdown(rows: Sequence[Row]) -> list[str]:
    """A table of some rows, none where there are none."""

    def line(values: Iterable[str]) -> str:
        return f"| {' | '.join(map(cell, values))} |"

    if not rows:
        return []
    more = [f"and {len(rows) - ROWS} more"] if len(rows) > ROWS else []
    body = (line(cells(row)) for row in rows[:ROWS])
    return [line(HEADER), line("---" for _ in HEADER), *body, *more]
