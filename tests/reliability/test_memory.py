"""The limit on activations holds for the process, not only by our own count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.memory import NETWORKS, Limited, limited

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
