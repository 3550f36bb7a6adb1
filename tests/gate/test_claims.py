"""Accepted claims: none is removed, or made to ask something else, in silence."""

from dataclasses import replace

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.errors import BadInput
from quantbench.gate.accept import Reason
from quantbench.gate.baseline import Baseline
from quantbench.gate.claims import accept_claims, compare

CLAIMS = [c for c in read_claims("adaround") if c.gates][:3]
SILENT = Reason("", lower=False, date="2026-11-29")
WHY = Reason("mistyped", lower=False, date="2026-11-30")


@pytest.fixture
def held():
    return accept_claims(Baseline(), CLAIMS, SILENT)


def test_what_is_held_and_unchanged_is_no_finding(held):
    assert compare(held, CLAIMS, CLAIMS) == []


def test_a_new_claim_counts_once_it_has_run():
    first = accept_claims(Baseline(), CLAIMS[:1], SILENT)
    assert compare(first, CLAIMS, CLAIMS[:1]) == []
    (found,) = compare(first, CLAIMS, CLAIMS[:2])
    assert (found.name, found.status, found.fails) == (CLAIMS[1].id, "new claim", True)


def test_a_removed_claim(held):
    (found,) = compare(held, CLAIMS[1:], CLAIMS[1:])
    assert (found.name, found.status, found.fails) == (CLAIMS[0].id, "claim removed", True)


@pytest.mark.parametrize(
    "change",
    [
        {"tol": 9.0},
        {"gates": False},
        {"value": 77.0},
        {"seeds": (0, 1)},
        {"method": "nearest"},
        {"fields": (("iterations", 1),)},
        {"calib": None},
    ],
)
def test_a_retargeted_claim(held, change):
    now = [replace(CLAIMS[0], **change), *CLAIMS[1:]]
    (found,) = compare(held, now, now)
    assert (found.status, found.fails) == ("retargeted", True)
    assert next(iter(change)) in found.detail
    with pytest.raises(BadInput, match=r"claim changed(.|\n)*--why"):
        accept_claims(held, now, SILENT)
    after = accept_claims(held, now, WHY)
    assert compare(after, now, now) == []
    assert (after.claims[CLAIMS[0].id]["why"], after.claims[CLAIMS[1].id]["why"]) == (
        "mistyped",
        "",
    )


def test_words_may_be_improved_at_any_time(held):
    now = [replace(CLAIMS[0], note="clearer", tol_why="clearer", where="x:1"), *CLAIMS[1:]]
    assert compare(held, now, now) == []
