"""The peak is that of the work that was measured, not of what came before."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from quantbench.system import memory

WORK = """
import numpy as np
from quantbench.system import memory
memory.restart_peak()
print(memory.peak_megabytes())
np.ones(200 * 2**20, np.uint8).sum()
print(memory.peak_megabytes())
memory.restart_peak()
print(memory.peak_megabytes())
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone counts it")
def test_the_peak_is_that_of_the_work():
    """In a process of its own: memory that earlier tests gave back would be used again."""
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    before, after, again = map(float, done.stdout.split())
    assert 190 < after - before < 260
    assert again < after - 150


FAULTS = """
import resource
import sys
import numpy as np
from quantbench.system import memory
if sys.argv[1] == "keep":
    memory.keep_freed()
np.ones(200 * 2**20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(200 * 2**20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
memory.restart_peak()
print(memory.peak_megabytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_memory_is_used_again_and_does_not_count_for_what_comes_next():
    found = {}
    for what in ("keep", "return"):
        words = [sys.executable, "-c", FAULTS, what]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found[what] = list(map(float, done.stdout.split()))
    assert 20 * found["keep"][0] < found["return"][0]
    assert found["keep"][1] < found["return"][1] + 20


def test_elsewhere_nothing_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "folder" / "clear")
    memory.restart_peak()
    assert memory.peak_megabytes() == 0.0
