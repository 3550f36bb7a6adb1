"""The whole page: what each of its sections shows, handed to the template."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quantbench import __version__
from quantbench.report import shift_tables, table
from quantbench.report.charts.ranks import ranks
from quantbench.report.charts.roofline import roofline
from quantbench.report.charts.spec import Chart, in_script
from quantbench.report.charts.verdicts import GROUPS
from quantbench.report.page import figures, glance
from quantbench.report.page.changed import Pictures, room
from quantbench.report.page.entries import boards, entries
from quantbench.report.page.found import Found, judged
from quantbench.report.page.papers import paper_tables
from quantbench.report.page.ranking import leaderboard
from quantbench.report.page.reliability import Reliability
from quantbench.report.page.render import render
from quantbench.report.page.sections import Section, section
from quantbench.report.page.skipped import skipped
from quantbench.system.progress import Progress, silent

if TYPE_CHECKING:
    from quantbench.comparison.table import Comparison
    from quantbench.latency.table import Table
    from quantbench.report.measured.document import Measured
    from quantbench.runs.lab import Lab


@dataclass(frozen=True)
class About:
    """Where the runs are from, for the top of the page.

    Attributes:
        commit: of the code, empty where it is unknown.
        machine: that wrote the page.
        latency: name of the latency page beside it, if there is one.
        measured: rows of ``reference/measured.md``.
        reliability: figures of ``docs/reliability.md``.

    """

    commit: str = ""
    machine: str = ""
    latency: str = ""
    measured: Sequence[Measured] = ()
    reliability: Reliability = field(default_factory=Reliability)


def page(
    every: Sequence[Found],
    lab: Lab,
    about: About | None = None,
    tables: Sequence[Table] = (),
    others: Sequence[Comparison] = (),
    progress: Progress = silent,
) -> str:
    """The page as HTML; it needs no other file and no network.

    Args:
        every: claims with their verdicts.
        lab: where their runs are.
        about: where they are from.
        tables: of ``quantbench latency``, for rooflines.
        others: networks and scores of other tools, of ``quantbench onnx`` and ``import``.
        progress: called with (done, total, label).

    """
    some = entries(every)
    bits = figures.bits_by_name(lab, some)
    fronts, cost = figures.tradeoffs(some, bits, figures.machines_by_name(lab, some))
    run, runs = figures.chosen_run(some, bits)
    placed = leaderboard(boards(some), progress)
    pictures = Pictures()
    ran = list(judged(every))
    about = about or About()
    here = {f.claim.id for f in ran}
    shown = {
        "about": about,
        "earlier": [row for row in about.measured if row.claim not in here],
        "version": __version__,
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "summary": table.summary([f.row for f in every]),
        "accepted": sum(f.accepted for f in every),
        "tiles": glance.tiles(every),
        "groups": [*GROUPS, "skipped"],
        "counts": glance.counts(every),
        "verdicts": glance.by_paper(every),
        "judged": ran,
        "tables": paper_tables(every),
        "fronts": fronts,
        "cost": cost,
        "ranks": ranks(placed) if placed else None,
        "placed": placed,
        "run": run,
        "runs": runs,
        "images": figures.by_images(some),
        "figure_1": figures.figure_1(every),
        "shift": shift_tables.section([f.row for f in ran]),
        "rooflines": _rooflines(tables),
        "others": others,
        "sections": _sections(ran, pictures, progress),
        "skipped": skipped(every),
        "reliability": about.reliability,
    }
    known = in_script(json.dumps(pictures.known))
    return render("page.html", pictures=known, **shown)


def _sections(ran: Sequence[Found], pictures: Pictures, progress: Progress) -> list[Section]:
    """One for each claim."""
    made = []
    for number, one in enumerate(ran, start=1):
        made.append(section(one, pictures, room(len(ran))))
        progress(number, len(ran), "describing the claims")
    return made


def _rooflines(tables: Sequence[Table]) -> list[Chart]:
    """One for the fastest native row of every table."""
    return [roofline(t, next(iter(t.layers))) for t in tables if t.layers]
