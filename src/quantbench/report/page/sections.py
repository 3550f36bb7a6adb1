"""Each claim in full: in words, how its verdict came about, what changed, and its history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from quantbench.claims.words import call, scheme_words
from quantbench.report import table
from quantbench.report.page.changed import LISTED, Changed, Pictures, changed, listed
from quantbench.report.page.found import Event, Found


@dataclass(frozen=True)
class Answers:
    """Examples that changed their answer, of the run of the first seed.

    Attributes:
        lost: how many only full precision has right.
        won: how many only the quantized network has right.
        n: examples.
        lost_at: positions in words.
        won_at: the same of the others.
        data: name of the set.
        pictures: positions of which the page has pictures, lost and won.

    """

    lost: int
    won: int
    n: int
    lost_at: str
    won_at: str
    data: str
    pictures: tuple[list[int], list[int]]


@dataclass(frozen=True)
class Section:
    """One claim as the template wants it."""

    found: Found
    facts: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]
    answers: Answers | None
    history: tuple[Event, ...]
    command: str
    where: str


def section(one: Found, pictures: Pictures, most: int = LISTED) -> Section:
    """Everything about a claim.

    Args:
        one: the claim.
        pictures: of the page.
        most: positions that are listed of the examples that changed either way.

    """
    claim, row = one.claim, one.row
    differs = changed(next(iter(row.runs.values()))) if row.runs and claim.method else None
    file, _, line = claim.where.rpartition(":")
    return Section(
        one,
        tuple((k, v) for k, v in _facts(one) if v),
        tuple((k, v) for k, v in _numbers(one) if v),
        row.verdict.parts,
        _answers(differs, claim.data, pictures, most) if differs else None,
        one.history,
        command(one),
        f"{PurePath(file).name}, line {line}" if line.isdigit() else PurePath(claim.where).name,
    )


def command(one: Found) -> str:
    """What runs the claim."""
    hours = f" --hours {one.claim.hours:g}" if one.claim.hours > 2 else ""
    return f"quantbench run{hours} -k {one.claim.id}"


def _facts(one: Found) -> list[tuple[str, str]]:
    """What is claimed and run, in words."""
    claim = one.claim
    rival = claim.rival
    tested = f"{claim.model} on {claim.data} ({claim.tier})"
    return [
        ("asks", claim.asks),
        ("method", call(claim.method, claim.fields) if claim.method else "full precision"),
        ("scheme", scheme_words(claim.scheme) if claim.scheme else "full precision"),
        ("rival", f"{call(rival.method, rival.fields)}, {rival.scheme}" if rival else ""),
        ("network", tested),
        ("calibration", f"{claim.calib.n} of {claim.calib.data}" if claim.calib else ""),
        ("seeds", str(len(claim.seeds))),
        ("source", str(claim.source)),
        ("tolerance", f"{claim.tol:g}: {claim.tol_why}" if claim.tol_why else ""),
        ("note", claim.note),
        ("known miss", str(claim.xfail or "")),
        ("gates", "yes" if claim.gates else "no"),
    ]


def _numbers(one: Found) -> list[tuple[str, str]]:
    """The numbers of the interval that decided."""
    verdict = one.row.verdict
    asked = "" if verdict.published is None else f"{verdict.published:.2f}"
    if verdict.published_to is not None:
        asked += f" to {verdict.published_to:.2f}"
    ours = f"{verdict.ours} over {verdict.ours.n:,} examples" if verdict.ours else ""
    found = verdict.difference.signed() if verdict.difference else ""
    return [
        (f"our {verdict.what}", ours),
        ("accuracy (drop)", table.ours(one.row)),
        ("asked", asked),
        (verdict.difference_is, found),
        ("must lie", _within(verdict.allowed) if found else ""),
        ("integer latency", table.latency(one.row)),
    ]


def _within(allowed: tuple[float, float] | None) -> str:
    if allowed is None:
        return "above 0"
    low, high = allowed
    bounded = low > float("-inf")
    return f"within {low:+.2f} and {high:+.2f}" if bounded else f"at or below {high:+.2f}"


def _answers(differs: Changed, data: str, pictures: Pictures, most: int) -> Answers:
    shown = (pictures.of(data, differs.lost), pictures.of(data, differs.won))
    at = (listed(differs.lost, most), listed(differs.won, most))
    return Answers(len(differs.lost), len(differs.won), differs.n, *at, data, shown)
