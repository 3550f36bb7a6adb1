"""The table of verdicts, for the terminal and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from quantbench.evidence.verdict import Outcome

if TYPE_CHECKING:
    from quantbench.report.bench import Row


HEADER = (
    "paper",
    "model",
    "scheme",
    "method",
    "asks (drop)",
    "ours (drop) [95 % interval]",
    "difference [95 % interval]",
    "integer latency",
    "verdict",
)

LONGEST = 100  # columns of a skip's reason


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, column by column."""
    from quantbench.claims.words import call

    claim, verdict = row.claim, row.verdict
    named = claim.scheme and claim.id.count("/") > 1
    scheme = claim.id.split("/")[-2] if named else str(claim.scheme or "fp32")
    method = call(claim.method, claim.fields) if claim.method else "full precision"
    about = (claim.paper, claim.model, scheme, method)
    return (*about, claim.asks, ours(row), difference(row), latency(row), str(verdict))


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


def terminal(rows: Sequence[Row]) -> list[str]:
    """Aligned lines; skipped claims are counted by reason instead of being listed."""
    ran = [row for row in rows if row.verdict.outcome != Outcome.SKIP]
    body = [HEADER, *(cells(row) for row in ran)]
    widths = [max(len(line[i]) for line in body) for i in range(len(HEADER))]
    padded = ([text.ljust(n) for text, n in zip(line, widths, strict=True)] for line in body)
    lines = ["  ".join(line).rstrip() for line in padded]
    return [summary(rows), *(lines if ran else []), *_skips(rows), summary(rows)]


def _skips(rows: Iterable[Row]) -> list[str]:
    """How many claims wait for what, and what would make them run."""
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.verdict.outcome == Outcome.SKIP:
            key = (row.verdict.reason, row.verdict.command)
            reasons[key] = reasons.get(key, 0) + 1
    lines = []
    for (why, command), count in sorted(reasons.items(), key=lambda kv: -kv[1]):
        shown = why if len(why) <= LONGEST else f"{why[: LONGEST - 3]}..."
        lines.append(f"SKIP {count:>4}  {shown}" + (f"  ->  {command}" if command else ""))
    return lines


def summary(rows: Sequence[Row]) -> str:
    """Counts of every verdict, and how many fail the run or leave it undecided."""
    counts = {o: sum(row.verdict.outcome == o for row in rows) for o in Outcome}
    text = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
    misses = sum(row.verdict.fails for row in rows)
    undecided = sum(row.verdict.undecided for row in rows)
    return f"{text}  (gating: {misses} missed, {undecided} undecided)"


def markdown(rows: Sequence[Row]) -> str:
    """A summary for CI: the same columns, skipped claims at the end."""

    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(v.replace("|", "\\|") for v in values) + " |"

    ran = [row for row in rows if row.verdict.outcome != Outcome.SKIP]
    skips = [f"- {text}" for text in _skips(rows)]
    body = [line(HEADER), line("---" for _ in HEADER), *(line(cells(row)) for row in ran)]
    return "\n".join([summary(rows), "", *body, "", *skips, ""])
