"""The claims that were asked for become tests; see ``quantbench.pytest_plugin`` for the options."""

from __future__ import annotations

import pytest

from quantbench.claims import load, select


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per claim, cheapest data first, claims on one network together."""
    if "claim" not in metafunc.fixturenames:
        return
    config = metafunc.config
    papers = config.getoption("qb_paper") or [None]
    claims = select([c for paper in papers for c in load(paper)], config.getoption("qb_select"))
    tier = config.getoption("qb_tier")
    order = {"embedded": 0, "real": 1, "online": 2}
    chosen = sorted((c for c in claims if tier in (None, c.tier)), key=lambda c: (order[c.tier], c.model, c.data))
    metafunc.parametrize("claim", chosen, ids=[c.id for c in chosen])
