"""What there is: papers, methods, models and claims, in words; nothing heavy is imported for lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from quantbench.claims.catalog import read_claims
from quantbench.claims.claim import Claim
from quantbench.claims.select import select
from quantbench.errors import BadInput, DataMissing, did_you_mean
from quantbench.quantization.registry import method_class, methods


def print_list(papers: Sequence[str], expression: str, tier: str | None) -> int:
    """Papers and methods, or the claims of a selection."""
    claims = [c for paper in papers for c in read_claims(paper)] if papers else list(read_claims())
    if not papers and not expression and not tier:
        for paper, count in Counter(c.paper for c in claims).items():
            here = Counter(c.tier for c in claims if c.paper == paper)
            print(
                f"{paper:<12} {count:>4} claims  "
                + ", ".join(f"{n} {t}" for t, n in sorted(here.items()))
            )
        print("methods:    ", ", ".join(methods()))
        print("claims:      quantbench list PAPER, or quantbench list -k EXPR")
        return 0
    for claim in select(claims, expression):
        if tier in (None, claim.tier):
            print(f"{claim.tier:<8}  {claim.id}  {claim.published}")
    return 0


def print_one(name: str, runs: Path) -> int:
    """A claim with what its finished runs measured, a method with its options, a paper's claims, or a model.

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
        print("\n".join(f"{c.id}  {c.published}" for c in claims if c.model == name))
    else:
        raise BadInput(
            f"nothing is called {name!r}{did_you_mean(name, {*by_name, *methods(), *papers, *models})}"
        )
    return 0


def _print_measured(claim: Claim, runs: Path) -> None:
    """Everything but curves that the finished runs of a claim, and of its rival, have in the ledger."""
    from quantbench.runs.lab import Lab

    lab = Lab(runs)
    try:
        own, rival = lab.cells(claim)
    except DataMissing:
        return  # without its data a cell has no key
    for cell in (*own.values(), *rival.values()):
        if found := lab.ledger.get(cell):
            values: dict[str, float | str] = {
                "full precision": found.fp_top1,
                "quantized": found.q_top1,
            }
            values |= {"size_bytes": found.size_bytes} | {
                f"seconds/{k}": v for k, v in found.seconds.items()
            }
            print(f"\nmeasured   {cell.id} ({found.metric}, {found.n} examples)")
            for key, value in (values | dict(found.extra)).items():
                print(
                    f"    {key} = {value}"
                    if isinstance(value, str)
                    else f"    {key} = {value:,.10g}"
                )


def _print_method(name: str) -> None:
    """Documentation and defaults; the defaults are the paper's."""
    found = method_class(name)
    if found.paper:
        print(f"{found.paper.title} (arXiv {found.paper.arxiv}, {found.paper.year})\n")
    print(f"{name}, version {found.version}: {found.__doc__}\nDefaults:")
    for field in fields(found):
        print(f"    {field.name} = {getattr(found(), field.name)!r}")
