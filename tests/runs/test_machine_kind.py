"""Kinds of machines: what tells them apart, and that a run remembers its own."""

import pytest

from quantbench.runs import machine_kind as kinds
from quantbench.runs.machine_kind import machine_kind

CPUINFO = """processor : 0
model name\t: Some Processor
flags\t\t: fpu avx2 fma sse4_1 avx512f

processor : 1
model name\t: Another
"""


def test_a_kind_is_readable_and_the_same_twice():
    assert machine_kind() == machine_kind()
    assert "threads" in machine_kind()
    assert "torch 2." in machine_kind()


def test_only_what_chooses_kernels_is_named(monkeypatch):
    told = kinds.facts(CPUINFO)
    assert told["model name"] == "Some Processor"
    monkeypatch.setattr(kinds, "facts", lambda _: told)
    kinds._processor.cache_clear()
    assert machine_kind().startswith("Some Processor, avx2 fma avx512f")
    kinds._processor.cache_clear()


@pytest.mark.parametrize("name", kinds.OVERRIDES)
def test_other_kernels_on_the_same_processor_are_another_kind(monkeypatch, name):
    before = machine_kind()
    monkeypatch.setenv(name, "avx2")
    assert machine_kind() == f"{before}, {name}=avx2"
