"""The digest of a claim: every change that can turn its verdict shows, and nothing else does."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.claims.claim import CalibrationSet, Claim, Xfail
from quantbench.claims.gating import GATING, LATER, gating_digest, gating_fields
from quantbench.claims.parse import parse

FILE = """
paper = "p"
title = "A paper"
[models]
net = { name = "cifar10/resnet20", fp = 69.68, data = "cifar10/test_1000" }
[schemes.default]
weights = {}
[sources]
t = { reported = "authors", status = "read" }
[[claim]]
name = "row"
source = "t"
method = "adaround"
tol = 0.5
tol_why = "a reason"
note = "a note"
cells.w4 = { net = 68.7 }
"""

INERT = {"id", "paper", "tol_why", "follows", "note", "skip", "where"}

OTHER = {
    "kind": "accuracy",
    "model": "cifar10/resnet56",
    "checkpoint": "authors",
    "data": "cifar10/test",
    "published_on": "cifar10/test",
    "method": "nearest",
    "fields": (("iterations", 100),),
    "scheme": None,
    "metric": "f1",
    "value": 68.8,
    "value_to": 69.0,
    "rounding": 0.05,
    "sd": 0.1,
    "runs": 3,
    "fp": 69.7,
    "fp_tol": 0.1,
    "tol": 0.6,
    "gates": False,
    "seeds": (0, 1),
    "calib": CalibrationSet("cifar10/calib", 256),
    "long": True,
    "hours": 3.0,
    "xfail": Xfail(1.5, "2026-11-29", "unknown"),
}


def one(text: str = FILE) -> Claim:
    (claim,) = parse(text, "p.toml")
    return claim


@pytest.mark.parametrize("name", [f.name for f in fields(Claim)])
def test_every_field_either_changes_the_digest_or_is_known_to_be_inert(name: str) -> None:
    claim = one()
    if name == "source":
        changed = replace(claim, source=replace(claim.source, status="recalled"))
    elif name == "rival":
        changed = next(replace(claim, rival=c.rival) for c in read_claims() if c.rival)
    else:
        changed = replace(claim, **{name: OTHER.get(name, "another")})
    assert (gating_digest(changed) == gating_digest(claim)) == (name in INERT)


def test_only_the_number_of_a_known_miss_counts() -> None:
    first, second = (
        replace(one(), xfail=Xfail(1.5, date, cause))
        for date, cause in (("2026-11-28", "unknown"), ("2026-11-29", "found"))
    )
    assert gating_digest(first) == gating_digest(second)
    assert gating_fields(first)["xfail"] == 1.5


def test_writing_a_number_with_more_digits_is_a_change_and_an_integer_is_its_float() -> None:
    assert gating_digest(one(FILE.replace("68.7 ", "68.70 "))) != gating_digest(one())
    whole, decimal = (one(FILE.replace("tol = 0.5", f"tol = {tol}")) for tol in ("1", "1.0"))
    assert gating_digest(whole) == gating_digest(decimal)


def test_what_came_later_is_left_out_at_its_default() -> None:
    """Claims were accepted before there were such fields, and are what they were."""
    assert set(LATER).isdisjoint(gating_fields(one()))
    assert gating_fields(replace(one(), hours=3.0))["hours"] == 3.0


def test_the_fields_that_are_named_exist() -> None:
    assert set(GATING) <= {f.name for f in fields(Claim)}
    assert set(GATING).isdisjoint(INERT)
