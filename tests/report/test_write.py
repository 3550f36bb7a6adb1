"""The verdicts come first, and no error of what is written afterwards costs them."""

import pytest

from quantbench.errors import CannotWrite
from quantbench.evidence.judge import judge
from quantbench.report import table, write
from quantbench.report.bench import Row
from quantbench.report.page import build
from quantbench.runs.ledger import Ledger
from tests.evidence.test_judge import LIMIT, run


@pytest.fixture(autouse=True)
def _cache(root):
    """Nothing that another test has kept."""


@pytest.fixture
def rows():
    here = {0: run(92.0, 90.0)}
    return [Row(LIMIT, judge(LIMIT, here), {}, {}, 1.0)]


def written(runs, rows):
    return list(write.write(runs, rows, Ledger(runs / "cells"), []))


def test_verdicts_are_there_before_anything_is_written(tmp_path, rows):
    lines = write.write(tmp_path, rows, Ledger(tmp_path / "cells"), [])
    verdicts = table.terminal(rows)
    assert [next(lines) for _ in verdicts] == verdicts
    assert not (tmp_path / "report").exists()
    assert next(lines) == f"report: {tmp_path / 'report' / 'index.html'}"
    assert (tmp_path / "report" / "summary.md").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("not so\nmany lines"), "ValueError: not so many lines"),
        (CannotWrite("the disk is full"), "the disk is full"),
    ],
)
def test_an_error_of_the_page_is_a_line_and_the_rest_goes_on(
    tmp_path, rows, monkeypatch, error, said
):
    def broken(*_):
        raise error

    monkeypatch.setattr(build, "page", broken)
    monkeypatch.setattr(write, "_track", lambda *_: "MLflow: here")
    lines = written(tmp_path, rows)
    assert lines == [*table.terminal(rows), f"quantbench: no report: {said}", "MLflow: here"]
    monkeypatch.setattr(write, "_track", broken)
    assert written(tmp_path, rows)[-1] == f"quantbench: no MLflow: {said}"


def test_whoever_waits_for_the_page_is_told_what_is_being_done(tmp_path, rows):
    told = []
    ledger = Ledger(tmp_path / "cells")
    list(write.write(tmp_path, rows, ledger, [], lambda *about: told.append(about)))
    assert (1, 1, "judging what was accepted") in told
    assert (1, 1, "describing the claims") in told
