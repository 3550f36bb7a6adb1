"""The commands ``gate`` and ``accept``: finished runs against the accepted baseline."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.cli.bench import CLEAN, MISSED, UNDECIDED
from quantbench.data.roots import clone_root, in_clone
from quantbench.errors import BadInput

if TYPE_CHECKING:
    from quantbench.gate.asked import Asked
    from quantbench.gate.baseline import Baseline
    from quantbench.gate.finding import Finding


def gate(options: argparse.Namespace) -> int:
    """``quantbench gate``: 0 clean, 1 regression, 3 nothing but undecided claims.

    Raises:
        BadInput: no baseline, a damaged one, nothing finished, or no accepted cell to compare with.

    """
    from quantbench.gate.baseline import Baseline
    from quantbench.gate.finding import UNSEEN, Status
    from quantbench.report.ci.case import of_findings
    from quantbench.report.ci.write import Wanted, write

    path = _path(options.baseline)
    if not path.exists():
        raise BadInput(f"no baseline {path}: quantbench accept --baseline {path} makes one")
    baseline = Baseline.read(path)
    findings = _findings(baseline, options)
    for line in _lines(findings):
        print(line)
    wanted = Wanted(options.junit, options.github, options.summary)
    write(of_findings(findings), "quantbench gate", wanted)
    if any(found.fails for found in findings):
        return MISSED
    if all(found.status in UNSEEN for found in findings if found.about == "cell"):
        raise BadInput(_NO_DATA)
    return UNDECIDED if any(found.status == Status.UNDECIDED for found in findings) else CLEAN


_NO_DATA = (
    "nothing was compared: no accepted cell that was asked for has its data here; "
    "quantbench data pull brings them, or the command in its line above"
)


def _findings(baseline: Baseline, options: argparse.Namespace) -> list[Finding]:
    """Everything that was looked at."""
    from quantbench.claims.catalog import read_claims
    from quantbench.gate import asked, cells, claims, pace
    from quantbench.gate.unfinished import unfinished
    from quantbench.gate.verdicts import judged
    from quantbench.runs.lab import Lab

    lab, found = Lab(Path(options.runs)), _asked(options)
    runs = asked.records(found)
    if not runs and not any(one.missing for one in found):
        raise _nothing(options)
    everything = read_claims()
    ran = [one.claim for one in found if one.finished]
    latency = {i: cell.latency for i, cell in baseline.cells.items()}
    results = {i: run.result for i, run in runs.items()}
    elsewhere = cells.on_other_kinds(baseline, runs.values())
    return [
        *cells.compare(baseline, runs.values()),
        *unfinished(baseline, found, lambda: asked.made_by(lab, everything)),
        *claims.compare(baseline, everything, ran),
        *judged(found),
        *pace.compare(latency, results, elsewhere),
    ]


def _lines(findings: Sequence[Finding]) -> list[str]:
    """What is worth a line, then what was counted, and what did not gate."""
    from quantbench.gate.finding import BY_STATISTICS, QUIET, Status

    lines = [str(f) for f in findings if f.status not in QUIET or "finds" in f.detail]
    for about, several in (("cell", "cells"), ("claim", "claims"), ("latency", "latencies")):
        counts = Counter(str(f.status) for f in findings if f.about == about)
        if counts:
            listed = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
            lines.append(f"{several}: {listed}")
    if drawn := sum(f.about == "cell" and f.status in BY_STATISTICS for f in findings):
        lines.append(
            f"{drawn} cells have no accepted bits of this kind of machine: statistics decided"
        )
    untold = (Status.NEW, Status.OTHER_MACHINE, Status.NO_FLOAT32)
    if silent := sum(f.about == "latency" and f.status in untold for f in findings):
        lines.append(f"{silent} latencies did not gate: none is accepted of this machine")
    failing = sum(f.fails for f in findings)
    if failing:
        lines.append(f'{failing} to mend, or to accept: quantbench accept --why "..."')
    return lines


def accept(options: argparse.Namespace) -> int:
    """``quantbench accept``: make finished runs the baseline.

    Raises:
        BadInput: nothing finished; or a change without a reason.

    """
    from quantbench.claims.catalog import read_claims
    from quantbench.gate import accept as step
    from quantbench.gate import asked
    from quantbench.gate.baseline import Baseline
    from quantbench.gate.claims import accept_claims
    from quantbench.gate.forget import forget
    from quantbench.runs.alone import alone
    from quantbench.runs.lab import Lab

    found, path = _asked(options), _path(options.baseline)
    runs = asked.records(found)
    if not (runs or options.forget or options.forget_bits or options.all_claims):
        raise _nothing(options)
    reason = step.Reason(options.why.strip(), options.lower, time.strftime("%Y-%m-%d"))
    with alone(str(path.absolute())):  # read, changed and written: another one would be lost
        before = Baseline.read(path)
        kept = step.without_bits(before, reason) if options.forget_bits else before
        after = step.accept_cells(kept, runs.values(), reason)
        wanted = [one.claim for one in found if one.finished or options.all_claims]
        after = accept_claims(after, wanted, reason)
        if options.no_latency:
            after = step.without_latency(after)
        if options.forget:
            everything = read_claims()
            ids = asked.made_by(Lab(Path(options.runs)), everything)
            after = forget(after, ids, [c.id for c in everything], reason)
        after.write(path)
    gone = len(after.forgotten) - len(before.forgotten)
    said = f", {gone} forgotten" if gone else ""
    print(f"{path}: {len(runs)} runs accepted, {len(after.claims)} claims held{said}")
    return CLEAN


def _path(named: str | None) -> Path:
    """The file that was named, else the clone's.

    Raises:
        BadInput: none was named, and there is no clone.

    """
    if named:
        return Path(named)
    if not in_clone():
        raise BadInput("there is no clone of quantbench here: name a baseline, --baseline FILE")
    return clone_root() / "reference" / "baseline.json"


def _asked(options: argparse.Namespace) -> list[Asked]:
    """The selected claims, with what is finished of them."""
    from quantbench.claims.select import asked_for
    from quantbench.gate.asked import asked
    from quantbench.runs.lab import Lab
    from quantbench.system.progress_bar import progress_bar

    claims = asked_for(options.papers, options.select, options.tier, options.hours)
    return asked(Lab(Path(options.runs)), claims, progress_bar())


def _nothing(options: argparse.Namespace) -> BadInput:
    return BadInput(f"no finished run of these claims in {options.runs}: quantbench run makes some")
