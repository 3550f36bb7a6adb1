"""Sentence pairs and tokenizers, as the text tasks read them."""

from __future__ import annotations

import functools
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


def device_of(model: Any) -> Any:
    """Where a model's weights are."""
    return next(model.parameters()).device
