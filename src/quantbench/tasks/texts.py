"""Sentence pairs and tokenizers, as the text tasks read them."""

from __future__ import annotations

import functools
import itertools
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.data.text import pairs_file
from quantbench.errors import DataCorrupt


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sentence pairs with their similarity, 0 to 5, and the digest of their file."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    gold: np.ndarray
    digest: str


@functools.lru_cache(maxsize=4)
def pairs(name: str) -> Pairs:
    """A file of STS-B: tab-separated, similarity in column 5, sentences in 6 and 7."""
    path, digest = pairs_file(name)
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
    if short := [i for i, row in enumerate(rows, 1) if len(row) < 7]:
        raise DataCorrupt(f"{path.name}, line {short[0]}: fewer than seven columns")
    first, second = (tuple(row[i].strip() for row in rows) for i in (5, 6))
    return Pairs(first, second, np.array([float(row[4]) for row in rows]), digest)


@functools.lru_cache(maxsize=2)
def tokenizer_of(folder: Path) -> Any:
    """The tokenizer whose files lie in a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


_LONE_BYTE = re.compile(rb"<0x([0-9A-F]{2})>")

_WORD = re.compile(r" ?[^ ]+| ")  # no piece of a vocabulary has a space inside


class Subwords:
    """Byte-pair encoding over a vocabulary with scores, as llama2.c stores it (tokenizer.bin).

    A word is split into characters, and the pair of pieces whose union has the highest score is
    joined until there is none; the first of equals. Characters that are no piece become bytes.

    Attributes:
        pieces: bytes of every token.
        scores: of their unions.

    """

    BEGIN = 1  # of a document
    BYTES = 3  # the token of byte 0

    def __init__(self, content: bytes) -> None:
        self.pieces: list[bytes] = []
        self.scores: list[float] = []
        at = 4  # behind the length of the longest piece
        try:
            while at < len(content):
                score, length = struct.unpack_from("<fi", content, at)
                at += 8 + length
                self.scores.append(score)
                self.pieces.append(content[at - length : at])
        except struct.error as e:
            raise DataCorrupt(f"a vocabulary that is cut short after {at} bytes: {e}") from e
        if at != len(content) or len(self.pieces) <= self.BYTES + 255:
            raise DataCorrupt(f"a vocabulary of {len(self.pieces)} pieces in {len(content)} bytes")
        self._number = {piece: i for i, piece in enumerate(self.pieces)}
        self._known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, which is taken to follow a space."""
        found: list[int] = []
        for word in _WORD.findall(f" {text}" if text else ""):
            if word not in self._known:
                self._known[word] = self._word(word)
            found += self._known[word]
        return found

    def decode(self, tokens: list[int]) -> str:
        """The text again, without the space that it follows."""
        content = b""
        for token in tokens:
            if token >= self.BYTES:
                lone = _LONE_BYTE.fullmatch(self.pieces[token])
                content += bytes([int(lone[1], 16)]) if lone else self.pieces[token]
        return content.removeprefix(b" ").decode("utf-8", "replace")

    def _word(self, word: str) -> list[int]:
        ids: list[int] = []
        for char in word:
            own = self._number.get(char.encode())
            ids += [own] if own is not None else [self.BYTES + b for b in char.encode()]
        while unions := [
            (-self.scores[union], i, union)
            for i, (a, b) in enumerate(itertools.pairwise(ids))
            if (union := self._number.get(self.pieces[a] + self.pieces[b])) is not None
        ]:
            _, i, union = min(unions)
            ids[i : i + 2] = [union]
        return ids


@functools.lru_cache(maxsize=2)
def subwords(path: Path) -> Subwords:
    """The vocabulary in a file."""
    return Subwords(path.read_bytes())


def device_of(model: Any) -> Any:
    """Where a model's weights are."""
    return next(model.parameters()).device
