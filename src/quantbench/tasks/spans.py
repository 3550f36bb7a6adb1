"""Extractive question answering: SQuAD 1.1's official scores, windows, choice of a span."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantbench.errors import DataCorrupt

LONGEST = 30  # tokens in an answer, as in the official run script of BERT

_ARTICLES = re.compile(r"\b(a|an|the)\b")

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Question:
    """A question on a passage, with every accepted answer."""

    id: str
    text: str
    context: str
    answers: tuple[str, ...]


def questions(content: Mapping[str, Any]) -> list[Question]:
    """All questions of a file in SQuAD 1.1's layout.

    Raises:
        DataCorrupt: it is not in that layout.

    """
    try:
        return [
            Question(q["id"], q["question"], p["context"], tuple(a["text"] for a in q["answers"]))
            for article in content["data"]
            for p in article["paragraphs"]
            for q in p["qas"]
        ]
    except (KeyError, TypeError) as e:
        raise DataCorrupt(
            f"not a file in SQuAD 1.1's layout: {e!r} is missing or of the wrong kind"
        ) from e


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and surplus spaces (the official definition)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def f1(given: str, answers: Iterable[str]) -> float:
    """Largest F1 over the accepted answers, on bags of words, 0 to 1."""
    return max(
        (_f1(normalized(given).split(), normalized(a).split()) for a in answers), default=0.0
    )


def exact_match(given: str, answers: Iterable[str]) -> bool:
    """Whether an accepted answer was given."""
    return any(normalized(given) == normalized(a) for a in answers)


def _f1(given: Sequence[str], answer: Sequence[str]) -> float:
    common = (Counter(given) & Counter(answer)).total()
    return 2 * common / (len(given) + len(answer)) if common else 0.0


@dataclass(frozen=True, eq=False)
class Windows:
    """Questions cut into windows that the network can take.

    Attributes:
        arrays: ids, segments, mask; (windows, T) each, int64.
        question: number of each window's question.
        offsets: (windows, T, 2) first and last character of each token in its passage; -1 outside
            the passage.

    """

    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    question: np.ndarray
    offsets: np.ndarray


def windows(tokenizer: Any, asked: Sequence[Question], *, length: int, stride: int) -> Windows:
    """Tokenize question and passage; windows of long passages overlap by ``stride`` tokens."""
    found = tokenizer(
        [q.text.strip() for q in asked],
        [q.context for q in asked],
        truncation="only_second",
        max_length=length,
        stride=stride,
        padding="max_length",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    offsets = np.array(found["offset_mapping"])
    second = np.array([[i == 1 for i in found.sequence_ids(w)] for w in range(len(offsets))])
    arrays = tuple(np.array(found[k]) for k in ("input_ids", "token_type_ids", "attention_mask"))
    return Windows(
        (arrays[0], arrays[1], arrays[2]),
        np.array(found["overflow_to_sample_mapping"]),
        np.where(second[..., None], offsets, -1),
    )


def answers(asked: Sequence[Question], cut: Windows, logits: np.ndarray) -> list[str]:
    """Text of the best span of every question over its windows.

    Args:
        asked: the questions.
        cut: their windows.
        logits: (windows, 2, T) scores of the first and the last token.

    """
    best = [(-np.inf, "") for _ in asked]
    length = logits.shape[-1]
    allowed = np.triu(np.ones((length, length), bool)) & ~np.triu(
        np.ones((length, length), bool), LONGEST
    )
    for number, (start, end), offsets in zip(cut.question, logits, cut.offsets, strict=True):
        inside = offsets[:, 0] >= 0
        scores = np.where(
            allowed & inside[:, None] & inside[None, :], start[:, None] + end[None, :], -np.inf
        )
        first, last = divmod(int(scores.argmax()), length)
        if scores[first, last] > best[number][0]:
            text = asked[number].context[offsets[first, 0] : offsets[last, 1]]
            best[number] = (float(scores[first, last]), text)
    return [text for _, text in best]
