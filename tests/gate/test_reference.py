"""The baseline of this repository: nothing in it is orphaned, and no claim was changed since."""

from pathlib import Path

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.data.roots import clone_root
from quantbench.gate.asked import made_by
from quantbench.gate.baseline import Baseline
from quantbench.gate.claims import compare
from quantbench.runs.lab import Lab


@pytest.fixture(scope="module")
def baseline():
    return Baseline.read(clone_root() / "reference" / "baseline.json")


def test_no_accepted_claim_was_retargeted_or_removed(baseline):
    """Whoever changes one accepts it with a reason: quantbench accept --why "..."."""
    claims = read_claims()
    assert [str(found) for found in compare(baseline, claims, claims)] == []


def test_every_accepted_cell_is_made_by_a_claim(baseline):
    assert set(baseline.cells) <= made_by(Lab(Path("runs")), read_claims())
    assert len(baseline.cells) >= 37


def test_every_event_says_when_and_why(baseline):
    events = [event for cell in baseline.cells.values() for event in cell.history]
    assert all(event["date"] and event["why"] for event in events)
