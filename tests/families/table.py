"""The table of all families, from the rows of a survey."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from quantbench.system.machine import fingerprint
from tests.families.survey import CLOSER, FINER, NEAR, Row, Verdict
from tests.families.zoo import MEMBERS

LEAST = 0.95  # of all networks that have to be right, in each column

NEAR_ISLAND = "1e-3"  # backends.onnx.islands.NEAR, which a page must not need ONNX to say

COLUMNS = ("fake", "integer", "onnx")

_HEAD = """# Networks of other libraries

One member of each family of torchvision and timm, the smallest, goes through the suite at W8A8:
weights are random (a network that was not trained is more sensitive than one that was), batch norms
have seen noise, images are small. Made by `nox -s families`; do not edit.

- **simulated**: relative distance of the simulation's output from the float network's. It is right
  up to {near:.0%}; beyond that, where the same quantizers with {finer} bits come closer by more
  than {closer} times, as rounding does and a mistake does not (marked \\*).
- **integer**: the same of the integer program, each of whose operators was first compared with the
  simulation's on the same inputs; *islands* are parts that stay in floats, each with its reason.
- **ONNX**: relative distance of the exported file, as ONNX Runtime runs it without rewriting it,
  from the program. Roundings that fall the other way add up; it is right where that is at most
  {near:.0%}, or at most what 8 bits cost; beyond that, where every operator by itself, on the
  inputs that it got, is as near to the program's as lowering asks for (marked \\*). Before that,
  each island's nodes were compared with the island by itself, on codes drawn from its inputs'
  ranges: a relative distance above {island} is a refusal.
- **refused** says why; *unshared* networks use layers several times and were given copies on
  request.

These rules were written before the networks were run, and stay as they are; but for the one by
operators, which was added for ONNX when one network had turned out to be beyond the others.

{counts}{missing}

| network | simulated | integer | islands | ONNX |
|---|---|---|---|---|
{rows}
"""


def page(rows: Iterable[Row]) -> str:
    """The page with the table, in the order of the zoo."""
    known = {row.label: row for row in rows}
    ordered = [known[m.label] for m in MEMBERS if m.label in known]
    lines = "\n".join(_line(row) for row in ordered)
    return _HEAD.format(
        near=NEAR,
        finer=FINER,
        closer=CLOSER,
        island=NEAR_ISLAND,
        counts=counts(ordered),
        missing=_missing(known),
        rows=lines,
    )


def _missing(known: Mapping[str, Row]) -> str:
    """Which networks were not run, by name."""
    labels = [m.label for m in MEMBERS if m.label not in known]
    return f"\n\nNot run: {', '.join(labels)}." if labels else ""


def require_right(rows: list[Row]) -> None:
    """Nothing is silently wrong or an error that is not written for people; most is right."""
    for row in rows:
        for column in COLUMNS:
            told = f"{row.label}: {column} {getattr(row, column)}\n{row.error}"
            assert row.verdict(column) is not Verdict.WRONG, told
    for column in COLUMNS:
        right = sum(row.verdict(column) is Verdict.RIGHT for row in rows)
        assert right >= LEAST * len(rows), counts(rows)


def counts(rows: list[Row]) -> str:
    """How many of each column are right, refused and wrong, when and where."""
    found = []
    for column in COLUMNS:
        each = Counter(row.verdict(column) for row in rows)
        share = each[Verdict.RIGHT] / max(1, len(rows))
        found.append(
            f"{'simulated' if column == 'fake' else column}: {each[Verdict.RIGHT]} right "
            f"({share:.0%}), {each[Verdict.REFUSED]} refused, {each[Verdict.WRONG]} wrong"
        )
    islands = sum(1 for row in rows if row.islands)
    minutes = sum(row.seconds for row in rows) / 60
    day = datetime.now(UTC).date()
    return (
        f"{len(rows)} of {len(MEMBERS)} networks. {'; '.join(found)}. {islands} of the "
        f"integer programs have islands. {day}, {fingerprint()}, one thread, {minutes:.0f} minutes."
    )


def _line(row: Row) -> str:
    note = " (unshared)" if row.unshared else ""
    cells = [_cell(row, column) for column in COLUMNS]
    islands = "" if row.islands is None else f"{row.islands} of {row.ops}"
    return f"| {row.label}{note} | {cells[0]} | {cells[1]} | {islands} | {cells[2]} |"


def _cell(row: Row, column: str) -> str:
    value = getattr(row, column)
    if isinstance(value, float):
        near = row.near_in_onnx if column == "onnx" else NEAR
        right = row.verdict(column) is Verdict.RIGHT
        star = "\\*" * (right and value > near and column != "integer")
        wrong = " **wrong**" * (not right)
        return f"{value:.2%}{star}{wrong}"
    text = value if len(value) <= 90 else f"{value[:87]}..."
    return text.replace("|", "\\|")
