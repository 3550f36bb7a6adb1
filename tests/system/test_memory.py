"""The peak is that of the work that was measured, not of what came before."""

from pathlib import Path

import numpy as np
import pytest

from quantbench.system import memory

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone counts it")
def test_the_peak_is_that_of_the_work():
    memory.restart_peak()
    before = memory.peak_megabytes()
    np.ones(200 * MIB, np.uint8).sum()
    after = memory.peak_megabytes()
    assert 190 < after - before < 260
    memory.restart_peak()
    assert memory.peak_megabytes() < after - 150


def test_elsewhere_nothing_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "folder" / "clear")
    memory.restart_peak()
    assert memory.peak_megabytes() == 0.0
