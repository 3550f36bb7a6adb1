"""What long work shows: bars where somebody watches, a line every half minute in a log."""

from types import SimpleNamespace

import pytest

from quantbench.system import progress_bar as shown
from quantbench.system.pace import Pace


def test_bars_are_drawn(capsys, monkeypatch):
    monkeypatch.setattr(shown, "watched", lambda: True)
    monkeypatch.setattr(shown, "DELAY", 0)
    show = shown.progress_bar()
    for done in (1, 2, 3):
        show(done, 3, "calibrating")
    show(1, 2, "comparing")
    show(2, 2, "comparing")
    drawn = capsys.readouterr().err
    assert "calibrating: 100%" in drawn
    assert "comparing: 100%" in drawn


def test_what_is_done_at_once_draws_nothing(capsys, monkeypatch):
    monkeypatch.setattr(shown, "watched", lambda: True)
    show = shown.progress_bar()
    for done in range(4):
        show(done, 3, "calibrating")
    assert capsys.readouterr().err == ""


def test_a_log_has_a_line_every_half_minute_with_the_time_left(capsys, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(shown.time, "monotonic", lambda: clock.now)
    show = shown.progress_bar()
    for second in range(0, 100, 10):
        clock.now = float(second)
        show(second, 100, "reading")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "reading [30/100, 1.2 min left]",
        "reading [60/100, 0.7 min left]",
        "reading [90/100, 0.2 min left]",
    ]


@pytest.mark.parametrize("modules", [{"ipykernel": object()}, {}])
def test_a_notebook_is_watched_without_a_terminal(modules, monkeypatch):
    monkeypatch.delitem(shown.sys.modules, "ipykernel", raising=False)
    for name, module in modules.items():
        monkeypatch.setitem(shown.sys.modules, name, module)
    assert shown.watched() == bool(modules)


def test_other_work_has_a_pace_of_its_own():
    pace = Pace()
    assert pace.told(0, 10, 0.0) == "[0/10]"
    assert pace.told(5, 10, 60.0) == "[5/10, 1.0 min left]"
    assert pace.told(1, 4, 70.0) == "[1/4]"
    assert pace.told(2, 4, 70.0 + 2 * 3600) == "[2/4, 4.0 h left]"
