"""The limit on activations holds for the process; nightly gates alarm on their night alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.memory import NETWORKS, Limited, limited
from tests.reliability.nights import simulate

NETWORK = "shapes/resnet8"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone counts it")
def test_the_process_stays_within_the_limit():
    found = limited(NETWORK, *NETWORKS[NETWORK])
    assert found.kept, found
    assert found.held > 0.5 * found.limit  # else it would limit nothing


def test_what_goes_beyond_is_told():
    assert Limited("a", 100.0, 104.0, 90.0).kept
    assert not Limited("a", 100.0, 106.0, 90.0).kept
    assert not Limited("a", 100.0, 90.0, 106.0).kept


def test_regressions_are_found_on_their_night_and_nothing_else_is(tmp_path):
    found = simulate(12, tmp_path)
    assert found.alarms == 0
    assert found.accepted == 1
    assert found.planted == {
        "moved, night 4": "moved",
        "loss, night 5": "loss",
        "slower, night 6": "slower",
    }
