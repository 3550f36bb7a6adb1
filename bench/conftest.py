"""The claims that were asked for become tests; see ``quantbench.pytest_plugin`` for the options."""

from __future__ import annotations

import pytest

from quantbench.claims.claim import Claim
from quantbench.claims.select import asked_for, chosen
from quantbench.runs.timing import BACKENDS, BATCHES

TIERS = ("embedded", "long", "real", "online")  # cheapest first


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per claim, cheapest data first, claims on one network together."""
    if "claim" in metafunc.fixturenames:
        claims = _asked_for(metafunc.config)
        metafunc.parametrize("claim", claims, ids=[c.id for c in claims])
    if "integer_claim" in metafunc.fixturenames:
        integer = [c for c in _asked_for(metafunc.config) if _is_integer(c)]
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("batch", BATCHES)
            metafunc.parametrize("backend", BACKENDS)
        metafunc.parametrize("integer_claim", integer, ids=[c.id for c in integer])


def _asked_for(config: pytest.Config) -> list[Claim]:
    """Claims that the options ask for; long ones are skipped unless named or finished."""
    papers, expression = config.getoption("qb_paper") or (), config.getoption("qb_select")
    about = (papers, expression, config.getoption("qb_tier"))
    finished = config.getoption("qb_finished")
    claims = chosen(*about) if finished else asked_for(*about, config.getoption("qb_hours"))
    return sorted(claims, key=lambda c: (TIERS.index(c.tier), c.model, c.data))


def _is_integer(claim: Claim) -> bool:
    """Whether its runs leave an integer network."""
    return bool(claim.scheme and claim.scheme.placement == "integer" and not claim.skip)
