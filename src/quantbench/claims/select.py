"""Selection of claims: by paper, by tier, and by pytest's ``-k``: ``resnet18 and not apot``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from quantbench.claims.catalog import read_claims
from quantbench.claims.claim import Claim, Tier
from quantbench.errors import BadInput

LONG = "its runs take longer than those of the embedded tier together: quantbench run --tier long"

HOURS = 2.0  # what takes longer runs only where --hours allows it

Test = Callable[[Claim], bool]

_TOKEN = re.compile(r"[()]|[^\s()]+")

_GLOB = frozenset("*?[")


def chosen(
    papers: Iterable[str] = (), expression: str = "", tier: Tier | str | None = None
) -> tuple[Claim, ...]:
    """The installed claims that a command line asks for, in the order of their files.

    Args:
        papers: short names; none stands for all.
        expression: see :func:`select`.
        tier: of data; ``None`` stands for all.

    Raises:
        BadInput: an unknown paper, an expression without meaning, a malformed file of claims.

    """
    papers = tuple(papers)
    claims = [c for paper in papers for c in read_claims(paper)] if papers else read_claims()
    return tuple(c for c in select(claims, expression) if tier in (None, c.tier))


def asked_for(
    papers: Iterable[str] = (),
    expression: str = "",
    tier: Tier | str | None = None,
    hours: float | None = None,
) -> tuple[Claim, ...]:
    """The same, with a reason to be skipped where running is more than was asked for.

    Long ones run where an expression or a tier names them, those that take hours where the limit
    allows as many, which by default is :data:`HOURS`.
    """
    named, limit = bool(tier or expression), HOURS if hours is None else hours
    return tuple(_within(c, limit, named=named) for c in chosen(papers, expression, tier))


def _within(claim: Claim, hours: float, *, named: bool) -> Claim:
    """A claim, with a reason to be skipped where it takes too long."""
    if claim.skip:
        return claim
    if claim.hours > hours:
        return replace(claim, skip=too_long(claim))
    return replace(claim, skip=LONG) if claim.tier == "long" and not named else claim


def too_long(claim: Claim) -> str:
    """How long a claim's runs take, and the command that runs it; short enough for a table."""
    return f"{claim.hours:g} hours: quantbench run --hours {claim.hours:g} -k {claim.id}"


def select(claims: Iterable[Claim], expression: str) -> tuple[Claim, ...]:
    """The claims that an expression matches, in their order.

    A word matches where it is part of the claim's id, paper, method, model, data, kind, tier,
    reporter or status; a word with ``*``, ``?`` or ``[`` must match one of these from end to end.
    Words are joined by ``and``, ``or``, ``not`` and parentheses; words beside each other are joined
    by ``and``. Case does not matter.

    Args:
        claims: what to select from.
        expression: empty selects everything.

    Raises:
        BadInput: the expression has no meaning.

    """
    if not expression.strip():
        return tuple(claims)
    test = _Parser(expression).parse()
    return tuple(c for c in claims if test(c))


class _Parser:
    """Recursive descent over ``or``, ``and``, ``not`` and words."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = _TOKEN.findall(expression.casefold())

    def parse(self) -> Test:
        test = self.any_of()
        if self.tokens:
            raise self.error(f"{self.tokens[0]!r} is not expected there")
        return test

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self.tokens[:1] == ["or"]:
            self.tokens.pop(0)
            tests.append(self.all_of())
        return lambda claim: any(test(claim) for test in tests)

    def all_of(self) -> Test:
        tests = [self.one()]
        while self.tokens and self.tokens[0] not in ("or", ")"):
            if self.tokens[0] == "and":
                self.tokens.pop(0)
            tests.append(self.one())
        return lambda claim: all(test(claim) for test in tests)

    def one(self) -> Test:
        word = self.tokens.pop(0) if self.tokens else ""
        if word in ("", ")", "and", "or"):
            where = f"before {word!r}" if word else "at the end"
            raise self.error(f"a word is missing {where}")
        if word == "not":
            test = self.one()
            return lambda claim: not test(claim)
        if word == "(":
            test = self.any_of()
            if not self.tokens:
                raise self.error("a parenthesis is not closed")
            self.tokens.pop(0)
            return test
        return lambda claim: _matches(word, claim)

    def error(self, what: str) -> BadInput:
        return BadInput(
            f"selection {self.expression!r}: {what}; "
            "write it like 'w2a4 and (resnet18 or resnet50) not apot'"
        )


def _matches(word: str, claim: Claim) -> bool:
    texts = (text.casefold() for text in claim.words)
    if _GLOB.isdisjoint(word):
        return any(word in text for text in texts)
    return any(fnmatchcase(text, word) for text in texts)
