"""The document of measured claims, as values and as Markdown, and what may be wrong with it.

A row is what was found at its commit, on its machine, by the claim as it was: it is never judged
anew without the scores, and a row whose claim asks for something else by now is called outdated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from quantbench.claims.claim import Claim
from quantbench.claims.gating import gating_digest
from quantbench.errors import BadInput
from quantbench.evidence.verdict import MISSES, Outcome

NOT_GATING = "(not gating)"  # as a verdict prints it

OUTDATED = "outdated"

TITLE = """# Measured

Written by `quantbench measured`, never by hand: the last verdict of every claim that was run to its
end on the data at hand. [Statistics and verdicts](../docs/statistics.md) says what the words mean,
`quantbench show CLAIM` everything else about a claim. *Gating* is a digest of all that can change
its verdict; where the claim has another one by now, the row is outdated.
"""

HEADER = (
    "verdict",
    "claim",
    "asks",
    "ours (drop) [95 % interval]",
    "difference [95 % interval]",
    "commit",
    "machine",
    "date",
    "gating",
)


@dataclass(frozen=True)
class Measured:
    """One row, every field as it is printed.

    Attributes:
        verdict: in words; ``outdated:`` stands before that of a claim that has changed.
        claim: its id.
        asks: what it asks.
        ours: our number with its interval.
        difference: what decided.
        commit: of the code that ran.
        machine: processor with its instruction set, threads and torch.
        date: of the last of its runs.
        gating: digest of the claim as it was judged.

    """

    verdict: str
    claim: str
    asks: str
    ours: str
    difference: str
    commit: str
    machine: str
    date: str
    gating: str

    @property
    def word(self) -> str:
        """The outcome, or ``outdated``."""
        return re.split(r"[(: ]", self.verdict, maxsplit=1)[0]

    def against(self, claim: Claim) -> Measured:
        """The row in view of what the claim asks today."""
        was = self.verdict.removeprefix(f"{OUTDATED}: ")
        today = was if self.gating == gating_digest(claim) else f"{OUTDATED}: {was}"
        return Measured(today, *self._values()[1:])

    def _values(self) -> list[str]:
        return [getattr(self, field.name) for field in fields(self)]

    def line(self, machine: str) -> str:
        """Its line of the table, the machine by its short name."""
        values = [machine if v is self.machine else v for v in self._values()]
        return f"| {' | '.join(v.replace('|', chr(92) + '|') for v in values)} |"


def counts(rows: Sequence[Measured]) -> str:
    """How many there are of every verdict, and how many claims are missed that gate."""
    words = [*Outcome, OUTDATED]
    found = {word: sum(row.word == word for row in rows) for word in words}
    text = ", ".join(f"{n} {word}" for word, n in found.items() if n) or "no claims"
    gating = [row.word for row in rows if NOT_GATING not in row.verdict]
    missed = sum(word in MISSES for word in gating)
    return f"{text}  (gating: {missed} missed, {gating.count(Outcome.UNDECIDED)} undecided)"


def to_markdown(rows: Iterable[Measured]) -> str:
    """The whole document; rows stand in the order of their claims' ids."""
    rows = sorted(rows, key=lambda row: row.claim)
    names: dict[str, str] = {}
    for row in rows:
        names.setdefault(row.machine, f"M{len(names) + 1}")
    machines = "".join(f"- {short}: {machine}\n" for machine, short in names.items())
    head = f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}\n"
    body = "".join(f"{row.line(names[row.machine])}\n" for row in rows)
    digest = hashlib.sha256(f"{machines}{body}".encode()).hexdigest()[:16]  # edits by hand show
    return f"{TITLE}\n{counts(rows)}\n\n{machines}\n{head}{body}\n<!-- sha256 {digest} -->\n"


def read(path: Path) -> list[Measured]:
    """The rows of a file.

    Raises:
        BadInput: it cannot be read, or is no such document; names the line.

    """
    try:
        return from_markdown(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{path} cannot be read: {e}") from e


def from_markdown(text: str, name: str) -> list[Measured]:
    """The rows again.

    Raises:
        BadInput: a line of the table that is no row; names file and line.

    """
    machines = dict(re.findall(r"^- (M\d+): (.+)$", text, re.MULTILINE))
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("| ") or line.startswith(f"| {HEADER[0]} |"):
            continue
        cells = [v.strip().replace("\\|", "|") for v in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != len(HEADER) or cells[6] not in machines:
            raise BadInput(
                f"{name}:{number}: no row of the table of measured claims: "
                "quantbench measured writes the file anew"
            )
        cells[6] = machines[cells[6]]
        rows.append(Measured(*cells))
    return rows


def faults(text: str, name: str, claims: Mapping[str, Claim]) -> Iterator[str]:
    """What is wrong with the document, one sentence each: it was edited, or claims have changed.

    Args:
        text: the document.
        name: its file.
        claims: today's, by id.

    """
    rows = from_markdown(text, name)
    for row in rows:
        if row.word not in (*Outcome, OUTDATED):
            yield f"{row.claim}: {row.word!r} is no verdict"
        if row.claim not in claims:
            yield f"{row.claim}: there is no such claim any more"
        elif row.against(claims[row.claim]) != row:
            yield f"{row.claim}: the claim has changed, and the row is not called outdated"
    if len({row.claim for row in rows}) < len(rows):
        yield "a claim stands in it twice"
    if text != to_markdown(rows):
        yield f"it was edited: digest, layout or counts are not those of its rows: {counts(rows)}"
