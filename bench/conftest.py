"""The claims that were asked for become tests; see ``quantbench.pytest_plugin`` for the options."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.claims.claim import Claim
from quantbench.claims.select import select
from quantbench.runs.timing import BACKENDS, BATCHES

LONG = "its runs take longer than those of the embedded tier together: quantbench run --tier long"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per claim, cheapest data first, claims on one network together."""
    if "claim" in metafunc.fixturenames:
        chosen = _chosen(metafunc.config)
        metafunc.parametrize("claim", chosen, ids=[c.id for c in chosen])
    if "integer_claim" in metafunc.fixturenames:
        integer = [
            c
            for c in _chosen(metafunc.config)
            if c.scheme and c.scheme.placement == "integer" and not c.skip
        ]
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("batch", BATCHES)
            metafunc.parametrize("backend", BACKENDS)
        metafunc.parametrize("integer_claim", integer, ids=[c.id for c in integer])


def _chosen(config: pytest.Config) -> list[Claim]:
    """Claims that the options ask for."""
    papers = config.getoption("qb_paper")
    claims = list(
        select(
            [c for p in papers for c in read_claims(p)] if papers else read_claims(),
            config.getoption("qb_select"),
        )
    )
    tier = config.getoption("qb_tier")
    if not (tier or config.getoption("qb_select") or config.getoption("qb_finished")):
        claims = [replace(c, skip=LONG) if c.tier == "long" and not c.skip else c for c in claims]
    order = {"embedded": 0, "long": 1, "real": 2, "online": 3}
    return sorted(
        (c for c in claims if tier in (None, c.tier)),
        key=lambda c: (order[c.tier], c.model, c.data),
    )
