"""A clock that jumps by days, to and fro, while commands run: nothing breaks, no time is negative.

Durations come from clocks that only go forward; the day alone is read from the one that jumps.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from quantbench.cli.main import main
from tests.reliability.disks.commands import small
from tests.reliability.disks.faults import Faults
from tests.reliability.disks.inject import forked
from tests.reliability.work import cells

DAYS = 3 * 86_400.0

COMMANDS = (
    ("run", "--runs", "runs"),
    ("accept", "--runs", "runs", "--baseline", "b.json"),
    ("gate", "--runs", "runs", "--baseline", "b.json"),
    ("report", "--runs", "runs"),
)


def jumping(words):
    """The command while every look at the clock finds another day."""
    own = {name: getattr(time, name) for name in ("time", "localtime", "gmtime", "strftime")}
    looks = [0]

    def now():
        looks[0] += 1
        return own["time"]() + DAYS * (looks[0] % 3 - 1)  # forward, and back again

    def strftime(form, when=None):
        return own["strftime"](form, when or own["localtime"](now()))

    time.time, time.time_ns = now, lambda: int(now() * 1e9)
    time.localtime = lambda at=None: own["localtime"](now() if at is None else at)
    time.gmtime = lambda at=None: own["gmtime"](now() if at is None else at)
    time.strftime = strftime
    code = main(words)
    assert looks[0] > 0 or words[0] == "gate", "nothing looked at the clock"
    return code


def every(folder, command):
    """All commands in a folder; what they said, and what is kept."""
    (folder / "cache").mkdir(parents=True)
    said = []
    for words in COMMANDS:
        ran = forked(command, words, folder, Faults(Path()))
        assert ran.code == 0, ran.said
        said.append(ran.said)
    return "\n".join(said), cells(folder)


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_result(tmp_path):
    with small():
        _, kept = every(tmp_path / "steady" / "place", main)
        said, jumped = every(tmp_path / "jumping" / "place", jumping)
    assert jumped == kept
    assert not re.search(r"(?<![\w.])-\d+(\.\d+)? ?(s|min|h|seconds|hours)\b", said), said
    for path in (tmp_path / "jumping" / "place" / "runs" / "cells").glob("*.json"):
        seconds = json.loads(path.read_text())["result"]["seconds"]
        assert min(seconds.values()) >= 0
