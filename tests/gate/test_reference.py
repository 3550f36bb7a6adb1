"""The baseline of this repository: nothing in it is orphaned, and no claim was changed since."""

from pathlib import Path

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.claims.select import HOURS
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


# Gating claims with cells that are not accepted: each was run once, reference/measured.md has its
# verdict with commit and machine, and the scores were not accepted then. The gate holds them to
# their verdicts only. Whoever runs one accepts it, and takes it out here.
NOT_ACCEPTED = {
    "adaquant/imagenet/googlenet-bvlc/w4a4/here-beats-nearest",
    "adaquant/shapes/resnet8/w8a8/here-embedded-advanced-0.125",
    "adaquant/stsb/minilm/w2a8-text/here-beats-nearest",
    "adaquant/stsb/minilm/w4a4-text/here-beats-nearest",
    "adaround/imagenet/googlenet-bvlc/w4-channel/here-beats-nearest",
    "adaround/imagenet/googlenet-bvlc/w4/here-beats-nearest",
    "bias/imagenet/googlenet-bvlc/w8a8/here-bft",
    "bias/imagenet/googlenet-bvlc/w8a8/here-ibc-8",
    "bias/imagenet/mobilenetv1-025/w8a8/here-iterative-beats-one-shot",
    "fp/coco/deeplabv3/fp/measured",
    "fp/voc/deeplabv3/fp/measured",
    "language/wikitext2/llama/w3/here-adaround-beats-nearest",
    "language/wikitext2/llama/w3/here-gram-beats-nearest",
    "language/wikitext2/llama/w4/here-adaround-beats-nearest",
    "language/wikitext2/llama/w4/here-gram-beats-nearest",
    "language/wikitext2/llama/w8/here-nearest",
    "nanodet/coco/nanodet/w4/here-gramround",
}


def test_every_cell_of_a_gating_claim_is_accepted(baseline):
    """Of those that run on the data of this project within the hours that a gate takes."""
    asked = [c for c in read_claims() if c.gates and not c.skip and c.tier != "online"]
    within, lab = [c for c in asked if c.hours <= HOURS], Lab(Path("runs"))
    assert len(within) > 100
    lacking = {c.id for c in within if not set(lab.ids(c)) <= set(baseline.cells)}
    assert lacking == NOT_ACCEPTED


def test_every_accepted_cell_is_made_by_a_claim(baseline):
    assert set(baseline.cells) <= made_by(Lab(Path("runs")), read_claims())
    assert len(baseline.cells) >= 37


def test_every_event_says_when_and_why(baseline):
    events = [event for cell in baseline.cells.values() for event in cell.history]
    assert all(event["date"] and event["why"] for event in events)
