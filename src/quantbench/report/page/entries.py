"""The runs that the page compares: each pipeline on each grid of each network once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantbench.claims.claim import PERCENT, Fields
from quantbench.claims.words import call
from quantbench.report.page.found import Found

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.quantization.scheme import Scheme
    from quantbench.runs.cell import Cell


@dataclass(frozen=True)
class Entry:
    """One pipeline on one grid of one network: a claim's own runs or its rival's.

    Attributes:
        network: its name.
        data: evaluation set.
        scheme: what is quantized.
        short: the scheme in short.
        method: names of the pipeline.
        fields: its options.
        calib: name and number of the calibration set.
        runs: results by seed.
        cells: by seed; none where only results are known.
        claim: id of a claim that shows it.

    """

    network: str
    data: str
    scheme: Scheme
    short: str
    method: str
    fields: Fields
    calib: str
    runs: Mapping[int, Result]
    cells: Mapping[int, Cell]
    claim: str

    @property
    def call(self) -> str:
        """The method with its options."""
        return call(self.method, self.fields)

    @property
    def place(self) -> str:
        """The network and its data."""
        return f"{self.network} on {self.data}"

    @property
    def first(self) -> Result:
        """The run of the first seed."""
        return next(iter(self.runs.values()))

    @property
    def accuracy(self) -> float:
        """Metric in points, mean over seeds."""
        return statistics.fmean(r.q_top1 for r in self.runs.values())


def entries(every: Sequence[Found]) -> list[Entry]:
    """Each once, with the most seeds that any claim has of it; full precision is none."""
    kept: dict[tuple[object, ...], Entry] = {}
    for one in every:
        for entry in _both(one):
            about = (entry.place, entry.scheme, entry.method, entry.fields, entry.calib)
            if about not in kept or _weight(entry) > _weight(kept[about]):
                kept[about] = entry
    return list(kept.values())


def _weight(entry: Entry) -> tuple[int, int]:
    """Most seeds win, then runs of this folder over accepted ones."""
    return len(entry.runs), len(entry.cells)


def _both(one: Found) -> Iterator[Entry]:
    """A claim's own runs, then its rival's, where their metric has points."""
    row, claim = one.row, one.claim
    calib = f"{claim.calib.n} of {claim.calib.data}" if claim.calib else ""
    sides = [(claim.scheme, claim.method, claim.fields, row.runs, row.cells)]
    if rival := claim.rival:
        sides.append((rival.scheme, rival.method, rival.fields, row.against, row.others))
    for scheme, method, fields, runs, cells in sides:
        if scheme and runs and _counts(runs):
            short = one.scheme if scheme == claim.scheme else str(scheme)
            about = (method, fields, calib, runs, cells, claim.id)
            yield Entry(claim.model, claim.data, scheme, short, *about)


def _counts(runs: Mapping[int, Result]) -> bool:
    return next(iter(runs.values())).metric in PERCENT


def named(some: Sequence[Entry]) -> dict[str, Entry]:
    """Each by a name that no other has."""
    found: dict[str, Entry] = {}
    for entry in some:
        name = f"{entry.place}, {entry.short}, {entry.call}"
        if name in found:
            name = f"{name}, {entry.calib}"
        if name in found:
            name = f"{name} ({entry.claim})"
        first, number = name, 1
        while name in found:  # one claim's runs and its rival's, which the short scheme calls alike
            number += 1
            name = f"{first} {number}"
        found[name] = entry
    return found


def boards(some: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by network and scheme, where there are several to compare."""
    groups: dict[tuple[str, Scheme], list[Entry]] = {}
    for entry in some:
        groups.setdefault((entry.place, entry.scheme), []).append(entry)
    found: dict[str, list[Entry]] = {}
    for (place, scheme), group in groups.items():
        same: dict[tuple[object, ...], list[Entry]] = {}
        for entry in group:
            same.setdefault(_examples(entry), []).append(entry)
        alike = max(same.values(), key=len)
        if len(alike) > 1:
            name = f"{place}, {group[0].short}"
            found[name if name not in found else f"{name}, {scheme.weights.range}"] = alike
    return found


def _examples(entry: Entry) -> tuple[object, ...]:
    """What draws of the examples pair by: entries that differ in it were not scored on the same."""
    first = entry.first
    return first.n, first.metric, first.gold, first.fp
