"""Every published number, and every result that must hold here, as one test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quantbench.claims.claim import Claim
from quantbench.evidence.verdict import Outcome
from quantbench.report.bench import Bench


def test_claim(
    claim: Claim, quantbench: Bench, record_property: Callable[[str, object], None]
) -> None:
    """The verdict is the test's outcome; what is undecided does not fail, but is not clean."""
    verdict = quantbench.judge(claim)
    record_property("verdict", str(verdict))
    record_property("undecided", verdict.undecided)
    if verdict.outcome == Outcome.SKIP:
        pytest.skip(verdict.explain())
    if verdict.outcome == Outcome.XFAIL:
        pytest.xfail(verdict.explain())
    if verdict.fails:
        pytest.fail(f"{claim.where}\n{verdict.explain()}", pytrace=False)
