"""Every published number, and every result that must hold here, as one test."""

from __future__ import annotations

from quantbench.claims.claim import Claim
from quantbench.pytest_plugin import Bench


def test_claim(claim: Claim, quantbench: Bench) -> None:
    """Run the claim's cells, or take them from the ledger, and judge them."""
    quantbench.check(claim)
