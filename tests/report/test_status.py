"""The line that says how long a claim will take."""

from types import SimpleNamespace

import pytest

from quantbench.report import status


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0, lines=[])
    monkeypatch.setattr(status.time, "perf_counter", lambda: clock.now)
    reporter = SimpleNamespace(isatty=False, write_line=clock.lines.append, flush=lambda: None)
    plugins = {"terminalreporter": reporter}
    clock.status = status.Status(
        SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=plugins.get))
    )
    clock.status.claim("claim")
    return clock


def at(clock, now, done, total=100):
    clock.now = 1000.0 + now
    clock.status(done, total, "step")
    return clock.lines[-1]


def test_the_time_left_follows_from_the_pace(clock):
    clock.status(0, 100, "step")
    assert not clock.lines  # a log has a line every half minute
    assert at(clock, 60, 10).endswith("[10/100, 9.0 min left]")
    assert at(clock, 120, 40).endswith("[40/100, 3.0 min left]")


def test_a_day_is_told_in_hours(clock):
    clock.status(0, 300, "step")
    assert at(clock, 300, 1, 300).endswith("[1/300, 24.9 h left]")
    assert at(clock, 27_600, 278, 300).endswith("[278/300, 36.4 min left]")


def test_steps_that_an_earlier_run_had_done_do_not_count(clock):
    at(clock, 31, 50)
    assert at(clock, 91, 60).endswith("[60/100, 4.0 min left]")


def test_a_second_part_has_a_pace_of_its_own(clock):
    at(clock, 31, 1)
    at(clock, 600, 99)
    at(clock, 631, 0)
    assert at(clock, 691, 50).endswith("[50/100, 1.0 min left]")
    assert at(clock, 751, 100, 400).endswith("[100/400]")
