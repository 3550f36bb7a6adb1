"""Every published number, and every result that must hold here, as one test."""

from __future__ import annotations

import pytest

from quantbench.claims.claim import Claim
from quantbench.evidence.verdict import Outcome
from quantbench.report.bench import Bench


def test_claim(claim: Claim, quantbench: Bench) -> None:
    """The verdict is the test's outcome."""
    verdict = quantbench.judge(claim)
    if verdict.outcome == Outcome.SKIP:
        pytest.skip(verdict.explain())
    if verdict.outcome == Outcome.XFAIL:
        pytest.xfail(verdict.explain())
    if verdict.fails:
        pytest.fail(f"{claim.where}\n{verdict.explain()}", pytrace=False)
