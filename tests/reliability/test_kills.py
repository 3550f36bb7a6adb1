"""The session that kills commands, on one of them; and that it notices what is damaged."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.reliability.kills import kill
from tests.reliability.work import WORK, cells, page

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
