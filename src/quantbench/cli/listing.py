"""What there is: papers, methods, models and claims, in words; lists import nothing heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.claims.catalog import read_claims
from quantbench.claims.claim import Claim
from quantbench.claims.select import HOURS, chosen, too_long
from quantbench.errors import BadInput, DataMissing, did_you_mean
from quantbench.quantization.registry import method_class, methods

if TYPE_CHECKING:
    from quantbench.evidence.result import Result


def print_list(papers: Sequence[str], expression: str, tier: str | None) -> int:
    """Papers and methods, or the claims of a selection."""
    claims = chosen(papers, expression, tier)
    if papers or expression or tier:
        for claim in claims:
            takes = f"  ({too_long(claim)})" if claim.hours > HOURS and not claim.skip else ""
            print(f"{claim.tier:<8}  {claim.id}  {claim.asks}{takes}")
        return 0
    for paper, count in Counter(c.paper for c in claims).items():
        tiers = sorted(Counter(c.tier for c in claims if c.paper == paper).items())
        print(f"{paper:<12} {count:>4} claims  " + ", ".join(f"{n} {tier}" for tier, n in tiers))
    print("methods:    ", ", ".join(methods()))
    print("claims:      quantbench list PAPER, or quantbench list -k EXPR")
    return 0


def print_one(name: str, runs: Path) -> int:
    """Everything about what has a name.

    That is a claim with what its finished runs measured, a method with its options, a paper's
    claims, or a model.

    Args:
        name: of any of them.
        runs: folder of finished runs; need not be there.

    Raises:
        BadInput: nothing has that name.

    """
    claims = read_claims()
    by_name = {c.id: c for c in claims}
    papers = {c.paper for c in claims}
    if name in by_name:
        print(by_name[name].describe())
        if runs.is_dir():
            _print_measured(by_name[name], runs)
    elif name in methods():
        _print_method(name)
    elif name in papers:
        print("\n\n".join(c.describe() for c in claims if c.paper == name))
    elif name in (models := {c.model for c in claims}):
        print("\n".join(f"{c.id}  {c.asks}" for c in claims if c.model == name))
    else:
        known = {*by_name, *methods(), *papers, *models}
        raise BadInput(f"nothing is called {name!r}{did_you_mean(name, known)}")
    return 0


def _print_measured(claim: Claim, runs: Path) -> None:
    """What the finished runs of a claim, and of its rival, have in the ledger, but for curves."""
    from quantbench.runs.lab import Lab

    lab = Lab(runs)
    try:
        own, rival = lab.cells(claim)
    except DataMissing:
        return  # without its data a cell has no key
    for cell in (*own.values(), *rival.values()):
        if found := lab.ledger.get(cell):
            print(f"\nmeasured   {cell.id} ({found.metric}, {found.n} examples)")
            for key, value in _numbers(found).items():
                print(f"    {key} = {value if isinstance(value, str) else f'{value:,.10g}'}")


def _numbers(result: Result) -> dict[str, float | str]:
    """Accuracies, bytes, times and what else a run logged, by name."""
    found: dict[str, float | str] = {"full precision": result.fp_top1, "quantized": result.q_top1}
    found["size_bytes"] = result.size_bytes
    found |= {f"seconds/{phase}": seconds for phase, seconds in result.seconds.items()}
    return found | dict(result.extra)


def _print_method(name: str) -> None:
    """Documentation and defaults; the defaults are the paper's."""
    found = method_class(name)
    if found.paper:
        print(f"{found.paper.title} (arXiv {found.paper.arxiv}, {found.paper.year})\n")
    print(f"{name}, version {found.version}: {found.__doc__}\nDefaults:")
    for field in fields(found):
        print(f"    {field.name} = {getattr(found(), field.name)!r}")
