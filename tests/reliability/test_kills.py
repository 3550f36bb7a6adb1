"""The session that kills commands, on one of them; that it notices damage; and its page."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from quantbench.system.machine import fingerprint
from tests.reliability.__main__ import Parts
from tests.reliability.disks.inject import Spoiled
from tests.reliability.disks.limits import Short
from tests.reliability.fuzz.session import Fuzzed
from tests.reliability.kills import Killed, kill
from tests.reliability.memory import Limited
from tests.reliability.nights import Nights
from tests.reliability.page import Figures
from tests.reliability.page import page as figures
from tests.reliability.work import WORK, cells, page
from tests.sweeps.scale import Scale

FOUND = Figures(
    kills=[Killed("run", 9.5, kills=7, late=1, ends=2)],
    corpus={"claims": 30, "ONNX": 43},
    fuzzed=[Fuzzed("claims", 67_670, 400)],
    seconds=15,
    spoiled=[Spoiled("accept", 4)],
    short=[Short("track", (4, 64))],
    nights=Nights(1440, 33, 48, 0, {"loss, night 481": "loss"}),
    memory=[Limited("shapes/resnet8", 96.0, 96.0, 94.0)],
    scale=Scale(10_000, 1.84, 0.31, {"list": 0.4, "report": 9.4}),
    minutes=52.0,
)

RUN = next(work for work in WORK if work.name == "sweep")


@pytest.mark.slow
def test_two_kills(tmp_path):
    words = [w for w in RUN.words if w != "w8"]
    words[words.index("--seeds") + 1] = "1"
    found = kill(replace(RUN, words=tuple(words)), tmp_path, tmp_path, 2, random.Random(0))
    assert found.kills == 2
    assert found.ends >= 1
    assert cells(tmp_path / "0")


def test_damage_is_noticed(tmp_path):
    folder = tmp_path / "runs" / "cells"
    folder.mkdir(parents=True)
    (folder / "half.json").write_text('{"key": "half", ')
    with pytest.raises(AssertionError, match="damaged"):
        cells(tmp_path)
    (tmp_path / "runs" / "report").mkdir()
    (tmp_path / "runs" / "report" / "index.html").write_text("<html><body>")
    with pytest.raises(AssertionError, match="half of"):
        page("index.html")(tmp_path)


def test_the_page_has_every_figure():
    text = figures(FOUND)
    for row in (
        "| run | 9.5 | 7 | 1 | 2 | 0 |",
        "| ONNX | 43 |",
        "| claims | 67,670 | 400 | 0 |",
        "| accept | 4 | 0 |",
        "| track | 4, 64 | 0 |",
        "| planted | loss, night 481 | loss |",
        "| shapes/resnet8 | 96 | 96.0 | 94.0 |",
        "| report | 9.4 |",
    ):
        assert row in text
    for words in (
        "7 kills:",
        "73 bad inputs",
        "15 seconds",
        "52 minutes",
        "24 hours",
        "48 changes",
        "10,000 cells",
        "1.8 ms",
        "0.3 MiB",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100 + len(fingerprint())


def test_a_session_goes_on_with_what_it_had_not_finished(tmp_path):
    parts, made = Parts(tmp_path / "parts"), []

    def one():
        made.append(1)
        return Short("track", (4, 64))

    parts.begin("first")
    found = [parts.once("one", Short, one) for _ in range(2)]
    assert len(made) == 1
    assert [(f.name, list(f.stopped)) for f in found] == [("track", [4, 64])] * 2
    parts.begin("first")
    with pytest.raises(SystemExit, match="begun by first, this is second: delete it"):
        parts.begin("second")
