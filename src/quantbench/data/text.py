"""Files of the text tasks: sentence pairs, questions, running text, an encoder in a package."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantbench.data import packaged
from quantbench.data.images import file
from quantbench.data.roots import data_root
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.system.digests import file_digest

MINILM = packaged.MINILM.sha256

SQUAD_MODEL = "checkpoints/squad_bert-base-uncased"

SQUAD_COMMAND = (
    f"hf download csarron/bert-base-uncased-squad-v1 --local-dir $QUANTBENCH_DATA/{SQUAD_MODEL}"
)

QA_FILES = {"qa/test": "embedded/qa/test.json.gz", "qa/calib": "embedded/qa/calib.json.gz"}

SQUAD_TRAIN = "text/train-v1.1.json"

SQUAD_FILES = {"squad/dev": "text/squad_dev-v1.1.json.gz"}


STORIES = "checkpoints/tinystories_llama_stories260k.safetensors"

STORIES_WORDS = "text/tinystories_tok512.bin"

TEXTS = {
    "wikitext2/test": "text/wikitext2/wikitext2_test.txt.gz",
    "wikitext2/valid": "text/wikitext2/wikitext2_valid.txt.gz",
}

TINYSTORIES = "text/TinyStories-valid.txt"

TINYSTORIES_COMMAND = (
    "hf download roneneldan/TinyStories TinyStories-valid.txt --repo-type dataset "
    "--local-dir $QUANTBENCH_DATA/text"
)

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
        return _whole(path, lambda: json.loads(path.read_bytes())), file_digest(path)
    if name not in known:
        raise BadInput(f"questions {name!r}: choose squad/train, {', '.join(known)}")
    path = file(known[name])
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return json.load(f), file_digest(path)


@functools.lru_cache(maxsize=4)
def text_file(name: str) -> tuple[str, str]:
    """A running text, and its file's digest."""
    if name == "tinystories/valid":
        path = data_root() / TINYSTORIES
        if not path.is_file():
            raise DataMissing(name, TINYSTORIES_COMMAND)
        return _whole(path, lambda: path.read_text(encoding="utf-8")), file_digest(path)
    if name not in TEXTS:
        raise BadInput(f"text {name!r}: choose tinystories/valid, {', '.join(TEXTS)}")
    path = file(TEXTS[name])
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return f.read(), file_digest(path)


def _whole(path: Path, read: Callable[[], Any]) -> Any:
    """What the user put there; raises DataCorrupt for what is not UTF-8, or no JSON."""
    try:
        return read()
    except (ValueError, RecursionError) as e:
        raise DataCorrupt(f"{path} is not a whole file of its kind: {e}") from e


def minilm_folder() -> Path:
    """Folder of the MiniLM encoder in its package; raises as :func:`packaged.weights_file`."""
    return packaged.weights_file(packaged.MINILM).parent
