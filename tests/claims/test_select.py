"""Selection expressions mean what their words say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.claims import catalog, select
from quantbench.errors import BadInput

ALL = catalog.read_claims()


@st.composite
def expressions(draw: st.DrawFn, depth: int = 0) -> tuple[str, object]:
    """An expression and its meaning as a predicate on claims."""
    kinds = ["word", "word", "glob", "not", "and", "beside", "or"]
    kind = draw(st.sampled_from(kinds if depth < 3 else ["word"]))
    if kind in ("word", "glob"):
        word = draw(st.sampled_from(["w2a4", "RESNET18", "apot", "t7", "recalled", "fp", "nosuch"]))
        text = f"*{word}*" if kind == "glob" else word
        return text, lambda c: any(word.casefold() in w.casefold() for w in c.words)
    left, a = draw(expressions(depth + 1))
    if kind == "not":
        return f"not ({left})", lambda c: not a(c)
    right, b = draw(expressions(depth + 1))
    if kind == "or":
        return f"(({left}) or ({right}))", lambda c: a(c) or b(c)
    return f"({left}) {'and ' if kind == 'and' else ''}({right})", lambda c: a(c) and b(c)


@given(expressions())
def test_selection_means_what_its_words_say(expression: tuple[str, object]) -> None:
    text, test = expression
    some = ALL[::11]
    assert select.select(some, text) == tuple(c for c in some if test(c))


def test_selection_by_example() -> None:
    picked = select.select(ALL, "w2a4 and resnet18 not apot")
    assert picked
    assert all("w2a4" in c.id and "resnet18" in c.id and c.paper != "apot" for c in picked)
    assert select.select(ALL, "not qdrop or brecq") == select.select(ALL, "(not qdrop) or brecq")
    assert {c.id.split("/")[3] for c in select.select(ALL, "*/w4/*")} == {"w4"}
    assert select.select(ALL, "  ") == ALL


def test_a_command_line_chooses_by_paper_expression_and_tier() -> None:
    assert select.chosen() == ALL
    chosen = select.chosen(["apot", "adaround"], "resnet20", "embedded")
    wanted = [c for c in select.select(ALL, "resnet20") if c.tier == "embedded"]
    assert chosen == tuple(c for p in ("apot", "adaround") for c in wanted if c.paper == p)
    real = select.chosen(["adaround"], "not w4", "real")
    assert {(c.paper, c.tier) for c in real} == {("adaround", "real")}
    with pytest.raises(BadInput, match="did you mean adaround"):
        select.chosen(["adarund"])


@pytest.mark.parametrize("text", ["and", "w4 or", "not", "(w4", "w4)", "()", "w4 and or w3"])
def test_meaningless_selections_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="selection"):
        select.select(ALL, text)
