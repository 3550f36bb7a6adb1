"""Procedural question answering: passages on invented lives, in SQuAD's format.

Answers are spans of the passages.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SPLITS = {"calib": (101, 256), "test": (102, 5000)}  # seed and number of passages

QUESTIONS = 2  # a passage

NAMESAKES = 0.2  # share of the passages where one word of a name does not tell two people apart

_LEXICON = {
    "first": "ada bela cora dina edda fina gwen hale ivor jory kato lena milo nora odin pola "
    "rhea saul tova ulla",
    "last": "abbot brook crane drake ewell frost grove heath irwin jarvis keene lowe marsh "
    "north oakes pryor",
    "town": "arden belmor cavan delph eskar fenwick galt horley ister kelso lorne malden "
    "nairn orrin pelham ruan",
    "second": "bay bridge cross ferry green hill mill port",  # the longer names of towns
    "trade": "baker brewer carver cooper dyer farrier glazier hatter joiner mason miller "
    "potter printer tanner",
    "how": "careful famous hired master poor retired skilled young",
    "thing": "bell bowl box chain coin crown flute key lamp map mirror ring statue sword vase",
    "made": "brass clay copper glass iron ivory silver stone",
    "colour": "black blue broken green grey painted red tiny white yellow",
    "other": "a as at born by did earn found gave give given go how in living married marry "
    "moved near of the thing to "
    "town trade was what when where which who whom with work worked year . , ?",
}

_WORDS = {kind: words.split() for kind, words in _LEXICON.items()}

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> list[str]:
    """Every token, special ones first; years are two pieces, such as ``18`` and ``##42``."""
    words = sorted({word for group in _WORDS.values() for word in group})
    return [*SPECIAL, *words, "16", "17", "18", "19", *(f"##{i:02d}" for i in range(100))]


@dataclass(frozen=True)
class _Fact:
    """A sentence, and questions on it with the piece of the sentence that answers each."""

    sentence: str
    asked: tuple[tuple[str, str], ...]


def passages(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Paragraphs as in SQuAD 1.1: ``context`` and ``qas`` (``id``, ``question``, ``answers``).

    Args:
        seed: of the whole run of passages.
        count: how many.

    """
    rng = random.Random(seed)  # noqa: S311 - no secret is drawn
    for number in range(count):
        facts = _facts(rng)
        context = " ".join(f.sentence for f in facts)
        qas = []
        for i, fact in enumerate(rng.sample(facts, QUESTIONS)):
            question, answer = rng.choice(fact.asked)
            start = context.index(fact.sentence) + fact.sentence.rindex(answer)
            answers = [{"text": answer, "answer_start": start}]
            qas.append({"id": f"{seed}-{number}-{i}", "question": question, "answers": answers})
        yield {"context": context, "qas": qas}


def squad(split: str) -> dict[str, Any]:
    """A split in the layout of SQuAD 1.1's files."""
    return {
        "version": "1.1",
        "data": [{"title": split, "paragraphs": list(passages(*SPLITS[split]))}],
    }


def _facts(rng: random.Random) -> list[_Fact]:
    """Four sentences on three people, two of whom may share their first or last name."""
    firsts, lasts = rng.sample(_WORDS["first"], 3), rng.sample(_WORDS["last"], 3)
    if rng.random() < NAMESAKES:
        shared = rng.choice((firsts, lasts))
        shared[1] = shared[0]
    people = [f"{a} {b}" for a, b in zip(firsts, lasts, strict=True)]
    kinds = rng.sample((_born, _worked, _found, _married, _moved, _gave), 3)
    told = [(kinds[0], people[1]), *zip(kinds, (people[0], people[0], people[2]), strict=True)]
    rng.shuffle(told)
    return [kind(rng, person) for kind, person in told]


def _town(rng: random.Random) -> str:
    return rng.choice(_WORDS["town"]) + (
        " " + rng.choice(_WORDS["second"]) if rng.random() < 0.4 else ""
    )


def _year(rng: random.Random) -> str:
    return str(rng.randint(1600, 1999))


def _person(rng: random.Random) -> str:
    return " ".join((rng.choice(_WORDS["first"]), rng.choice(_WORDS["last"])))


def _object(rng: random.Random) -> tuple[str, str]:
    thing = rng.choice(_WORDS["thing"])
    before = [rng.choice(_WORDS["colour"])] * (rng.random() < 0.6) + [
        rng.choice(_WORDS["made"])
    ] * (rng.random() < 0.6)
    return " ".join(["a", *before, thing]), thing


def _born(rng: random.Random, who: str) -> _Fact:
    town, year = _town(rng), _year(rng)
    asked = (
        (f"where was {who} born ?", town),
        (f"when was {who} born ?", year),
        (f"who was born in {town} ?", who),
    )
    return _Fact(f"{who} was born in {town} in {year} .", asked)


def _worked(rng: random.Random, who: str) -> _Fact:
    trade, town = (
        " ".join(("a", rng.choice(_WORDS["how"]), rng.choice(_WORDS["trade"]))),
        _town(rng),
    )
    asked = (f"what was the trade of {who} ?", trade), (f"how did {who} earn a living ?", trade)
    return _Fact(
        f"{who} worked as {trade} at {town} .", (*asked, (f"where did {who} work ?", town))
    )


def _found(rng: random.Random, who: str) -> _Fact:
    (what, thing), town = _object(rng), _town(rng)
    asked = (
        (f"what was found by {who} ?", what),
        (f"near which town was the {thing} of {who} found ?", town),
    )
    return _Fact(f"near {town} , {who} found {what} .", (*asked, (f"who found a {thing} ?", who)))


def _married(rng: random.Random, who: str) -> _Fact:
    other, year = _person(rng), _year(rng)
    asked = (f"whom did {who} marry ?", other), (f"in which year was {who} married ?", year)
    return _Fact(f"in {year} {who} married {other} .", asked)


def _moved(rng: random.Random, who: str) -> _Fact:
    town, other = _town(rng), _person(rng)
    asked = (f"to which town did {who} go ?", town), (f"with whom did {who} go ?", other)
    return _Fact(f"{who} moved to {town} with {other} .", asked)


def _gave(rng: random.Random, who: str) -> _Fact:
    (what, _), other = _object(rng), _person(rng)
    asked = (f"what was given to {other} ?", what), (f"what did {who} give ?", what)
    return _Fact(
        f"{who} gave {what} to {other} .", (*asked, (f"who gave a thing to {other} ?", who))
    )
