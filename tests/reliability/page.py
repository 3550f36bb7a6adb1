"""docs/reliability.md: every figure of the session, with what it stands for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantbench.system.machine import fingerprint
from tests.reliability.disks.inject import Spoiled
from tests.reliability.disks.limits import SIZES, Short
from tests.reliability.fuzz.session import Fuzzed
from tests.reliability.kills import Killed
from tests.reliability.memory import Limited
from tests.reliability.nights import CHANGE, Nights
from tests.sweeps.scale import MIB, MILLISECONDS, SECONDS, Scale


@dataclass(frozen=True)
class Figures:
    """What the session found.

    Attributes:
        kills: by command.
        corpus: rows of the table of bad inputs, by kind.
        fuzzed: by loader.
        seconds: that every loader was fuzzed.
        spoiled: by command, with every write refused.
        short: by command, on a disk that takes small files only.
        nights: of gates.
        memory: by network.
        scale: of a large ledger.
        minutes: that the session took.

    """

    kills: Sequence[Killed]
    corpus: Mapping[str, int]
    fuzzed: Sequence[Fuzzed]
    seconds: int
    spoiled: Sequence[Spoiled]
    short: Sequence[Short]
    nights: Nights
    memory: Sequence[Limited]
    scale: Scale
    minutes: float


HEAD = """# Reliability

What happens when a machine, a disk, a file or another person's package goes wrong, in figures. Made
by `nox -s reliability` in {minutes:.0f} minutes, {day}, on {machine}; do not edit. Had one
of the figures not been reached, this page would not have been written.
"""

KILLS = """
## Kills

Commands are killed with SIGKILL, and all that they started, at moments drawn evenly over the time
that they take; up to five times in one folder, and then they run to their end. After every kill
what was stored before is still there, every cell, baseline, page and data file is whole, and no
result is there that an undisturbed run has not; at the end everything equals what the undisturbed
run left: scores and networks bit for bit. {total} kills:
"""

CORPUS = """
## Bad inputs

{total} bad inputs, a row each in the table of `tests/reliability/corpus`: what is wrong, how it is
made, the command or call that meets it, the words that its error contains, the exit code. None ends
in a traceback. The exit code is 2; a damaged cell of the ledger is named and moved aside, its
cell runs again, and the code is 0.
"""

FUZZ = """
## Loaders under fuzzing

Every loader is fuzzed for {seconds} seconds by a fuzzer that coverage leads
([Atheris](https://github.com/google/atheris)), and then with examples that Hypothesis draws: of
damaged bytes, and of other values in JSON. Whatever the bytes, there is an object or an error of
this project, no other exception, no hang, nothing is started and no file written outside of the
loader's folder. What was found is a row of the table above.
"""

DISKS = """
## Full and read-only disks

Every write of a command is refused once: opening a file, making a folder, flushing it, renaming.
The disk is full at that moment alone, or read-only from then on. The command names the path and
ends with a code other than 0, nothing that was there is lost or changed, and the same command
afterwards ends with what an undisturbed one leaves. Caches are no results: where one cannot be
written, the command ends as if it had been. MLflow beside a run is a copy, too: that it was not
recorded is a line.
"""

SHORT = """
Libraries and processes that a command starts (SQLite below MLflow, DVC) write past that. They run
where no file may be larger than {sizes} KiB:
"""

POWER = """
## Power cuts

Everything that is kept goes through one function, `write_atomically`, in this order: write a file
beside the place, flush it to the disk (`fsync`), rename it to its place, flush the folder. POSIX
makes the rename atomic: a reader finds the old file or the new one. Without the first flush the
name could reach the disk before the content, and a cut would leave an empty file under the right
name; without the second a command could have said that a cell is finished whose name the disk does
not have yet. After a cut at any moment there are the old file or the new one, and at most a hidden
file beside it, which the next run removes. A saved network is two files: the JSON, which marks the
pair as whole, is removed first and written last. The order of these calls is tested; that a disk
does what `fsync` asks is the machine's business. Downloads and caches are checked by digest when
they are read, and need no order.
"""

TWO = """
## Two at once, and clocks

A ledger is locked by the run that writes it, and a second one ends at once with the number of that
process; readers need no lock, and see whole cells while another process writes (tested over
thousands of writes). Two `quantbench accept` on one baseline, and two uploads to one MLflow store
from one machine, wait for each other: neither loses what the other did, and no cell is there twice.
Uploads from two machines do not know of each other.

Durations come from clocks that only go forward. With a clock of the day that jumps by three days,
forward and back, at every look, run, accept, gate and report end with the same results, and no time
that they show is negative.
"""

NIGHTS = """
## Nightly gates

{gates:,} nights, simulated: at a minute a gate they are {hours:.0f} hours of gates. Every night
{cells} cells of up to 10,240 images go through ledger, baseline file and the gate's own tests; two
nights in three on the accepted machine with its times drawn anew, every third on another kind,
whose answers differ as was [measured between kinds of machines](statistics.md). Every {change}
nights a harmless change of the code is accepted: {accepted} changes.
"""

MEMORY = """
## Memory

`QUANTBENCH_MEMORY_GIB` limits the activations that a calibration pass holds in memory; the rest
lies in files. Measured beside our own count: how much higher the peak of the process is than with
every activation in a file (AdaRound, all layers). Neither may be more than 5 % above the limit.
Weights, data sets and the work on one batch are not in the limit.
"""

SCALE = """
## Ten thousand cells

A sweep of {cells:,} cells whose results are made up, with every cell of every claim beside them:
{milliseconds:.1f} ms of processor time a cell for scheduling and ledger (at most {most}), and over
the second half of it memory grows by {growth:.1f} MiB (at most {mib}). On that ledger a command
takes, in seconds of processor time (at most {seconds}; the first report of a folder more, for it
draws the intervals of what is accepted and makes MLflow's store):
"""


def page(found: Figures) -> str:
    """The whole page."""
    day, machine = time.strftime("%Y-%m-%d"), fingerprint()
    gates, hours = found.nights.gates, found.nights.gates / 60
    return "".join(
        (
            HEAD.format(minutes=found.minutes, day=day, machine=machine),
            KILLS.format(total=sum(k.kills for k in found.kills)),
            _kills(found.kills),
            CORPUS.format(total=sum(found.corpus.values())),
            _table(("input", "rows"), found.corpus.items()),
            FUZZ.format(seconds=found.seconds),
            _table(
                ("loader", "executions", "examples", "failed"),
                ((f.name, f"{f.executions:,}", f"{f.examples:,}", 0) for f in found.fuzzed),
            ),
            DISKS,
            _table(
                ("command", "writes refused", "lost"),
                ((s.name, s.points, 0) for s in found.spoiled),
            ),
            SHORT.format(sizes=", ".join(map(str, SIZES))),
            _table(
                ("command", "could not end at, KiB", "lost"),
                ((s.name, ", ".join(map(str, s.stopped)), 0) for s in found.short),
            ),
            *(POWER, TWO),
            NIGHTS.format(
                gates=gates,
                hours=hours,
                cells=found.nights.cells,
                change=CHANGE,
                accepted=found.nights.accepted,
            ),
            _nights(found.nights),
            MEMORY,
            _table(
                ("network", "limit, MiB", "held by our count", "higher peak of the process"),
                (
                    (m.network, f"{m.limit:.0f}", f"{m.held:.1f}", f"{m.beyond:.1f}")
                    for m in found.memory
                ),
            ),
            _scale(found.scale),
        )
    )


def _kills(kills: Sequence[Killed]) -> str:
    head = "command", "seconds", "kills", "after its end", "runs to the end", "damaged or lost"
    return _table(head, ((k.name, f"{k.seconds:.1f}", k.kills, k.late, k.ends, 0) for k in kills))


def _nights(nights: Nights) -> str:
    rows = [("no regression", "alarms", nights.alarms)]
    rows += [("planted", what, said) for what, said in nights.planted.items()]
    return _table(("nights with", "", "the gate said"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _scale(scale: Scale) -> str:
    about = {"most": f"{MILLISECONDS:.0f}", "mib": f"{MIB:.0f}", "seconds": f"{SECONDS:.0f}"}
    found = {"cells": scale.cells, "milliseconds": scale.milliseconds, "growth": scale.growth}
    rows = ((name, f"{seconds:.1f}") for name, seconds in scale.seconds.items())
    return SCALE.format(**about, **found) + _table(("command", "seconds"), rows)
