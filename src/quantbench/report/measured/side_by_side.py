"""Tables of methods side by side: one for each network and scheme, from finished claims.

Claims of kind ``order`` whose rival is nearest rounding make the rows. Each says what a method
loses, and gains over nearest on the same images, with 95 % intervals, and what it costs. A claim of
the same run with a published number puts that number and its verdict beside it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from quantbench.claims.words import call
from quantbench.evidence.result import Result
from quantbench.report import table
from quantbench.report.bench import Row

TITLE = """# Methods side by side

Written by `quantbench measured --tables`, never by hand: claims of the paper `{paper}` that have
been run to their end, nearest rounding first, then the others by accuracy. Seconds are of
quantization alone, on the machine and with the threads of `reference/measured.md`; memory is the
most that a process held meanwhile, its network and images included. Both are means over seeds, and
no two methods were timed at the same moment: they tell tens of per cent apart, not single ones.
"""

HEADER = (
    *("method", "ours (drop) [95 % interval]", "over nearest [95 % interval]"),
    *("seconds", "MiB", "seeds", "published", "note"),
)


def to_markdown(rows: Iterable[Row], paper: str) -> str:
    """The document.

    Args:
        rows: judged claims, of any papers.
        paper: the short name of the one whose claims make tables.

    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.claim.paper == paper and row.runs:
            groups[row.claim.model, row.claim.id.split("/")[-2]].append(row)
    tables = (
        _table(*about, found)
        for about, found in sorted(groups.items())
        if any(row.against for row in found)
    )
    return "\n".join((TITLE.format(paper=paper), *tables))


def _table(model: str, scheme: str, rows: Sequence[Row]) -> str:
    compared = [row for row in rows if row.against]
    published = {_call(row): _published(row) for row in rows if not row.against}
    first = compared[0]
    lines = [("nearest", _alone(first.against), "", *_cost(first.against), "", "")]
    for row in sorted(compared, key=lambda r: -_accuracy(r.runs)):
        said = (_call(row), table.ours(row), table.difference(row).removeprefix("advantage "))
        beside = published.get(_call(row), "")
        lines.append((*said, *_cost(row.runs), beside, row.claim.note))
    full = f"{statistics.fmean(r.fp_top1 for r in first.runs.values()):.2f}"
    head = f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}\n"
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    about = f"Full precision: {full} on {_images(first)} images."
    return f"## {model}, {scheme}\n\n{about}\n\n{head}{body}"


def _call(row: Row) -> str:
    return call(row.claim.method, row.claim.fields)


def _published(row: Row) -> str:
    """What a paper has, and the verdict on ours."""
    lost = "drop " if row.claim.metric.endswith("_drop") else ""
    return f"{lost}{row.claim.asks.removeprefix('published ')}: {row.verdict.outcome}"


def _alone(runs: Mapping[int, Result]) -> str:
    """Accuracy and drop; what the others are compared with has no interval of its own."""
    drop = statistics.fmean(r.drop for r in runs.values())
    return f"{_accuracy(runs):.2f} ({drop:+.2f})"


def _accuracy(runs: Mapping[int, Result]) -> float:
    return statistics.fmean(r.q_top1 for r in runs.values())


def _images(row: Row) -> int:
    return next(iter(row.runs.values())).n


def _cost(runs: Mapping[int, Result]) -> tuple[str, str, str]:
    """Seconds and memory, means over seeds, and how many seeds there are."""
    seconds = statistics.fmean(r.seconds.get("quantize", 0.0) for r in runs.values())
    peaks = [float(r.extra.get("peak_megabytes", 0.0)) for r in runs.values()]
    memory = f"{statistics.fmean(peaks):.0f}" if all(peaks) else "not counted"
    return f"{seconds:.0f}", memory, str(len(runs))
