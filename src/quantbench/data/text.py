"""Files of the text tasks: sentence pairs, questions, an encoder in a package."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

from quantbench.data import packaged
from quantbench.data.images import file
from quantbench.data.roots import data_root
from quantbench.errors import BadInput, DataMissing
from quantbench.system.digests import file_digest

MINILM = packaged.MINILM.sha256

SQUAD_MODEL = "checkpoints/squad_bert-base-uncased"

SQUAD_COMMAND = (
    f"hf download csarron/bert-base-uncased-squad-v1 --local-dir $QUANTBENCH_DATA/{SQUAD_MODEL}"
)

QA_FILES = {"qa/test": "embedded/qa/test.json.gz", "qa/calib": "embedded/qa/calib.json.gz"}

SQUAD_TRAIN = "text/train-v1.1.json"

SQUAD_FILES = {"squad/dev": "text/squad_dev-v1.1.json.gz"}


PAIRS = ("stsb/train", "stsb/dev", "stsb/test")


def pairs_file(name: str) -> tuple[Path, str]:
    """File of a split of STS-B, and its digest."""
    if name not in PAIRS:
        raise BadInput(f"sentence pairs {name!r}: choose {', '.join(PAIRS)}")
    path = file(f"text/stsbenchmark/sts-{name.removeprefix('stsb/')}.csv")
    return path, file_digest(path)


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
        return json.loads(path.read_text(encoding="utf-8")), file_digest(path)
    if name not in known:
        raise BadInput(f"questions {name!r}: choose squad/train, {', '.join(known)}")
    path = file(known[name])
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return json.load(f), file_digest(path)


def minilm_folder() -> Path:
    """Folder of the MiniLM encoder in its package; raises as :func:`packaged.weights_file`."""
    return packaged.weights_file(packaged.MINILM).parent
