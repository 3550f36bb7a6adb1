"""Simulated nightly gates: no alarm by chance, every planted regression on its night."""

from __future__ import annotations

from tests.reliability.nights import simulate


def test_regressions_are_found_on_their_night_and_nothing_else_is(tmp_path):
    found = simulate(12, tmp_path)
    assert found.alarms == 0
    assert found.accepted == 1
    assert found.planted == {
        "moved, night 4": "moved",
        "loss, night 5": "loss",
        "slower, night 6": "slower",
    }
