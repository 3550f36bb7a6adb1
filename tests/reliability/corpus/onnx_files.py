"""ONNX files: each is written by a function of tests/network/onnx_files/corpus.py."""

from __future__ import annotations

from tests.network.onnx_files.corpus import CORPUS
from tests.reliability.corpus.row import Bad

ROWS = tuple(
    Bad("ONNX", name.replace("_", " "), case.write, ("onnx", "{}"), ("bad.onnx", case.says))
    for name, case in CORPUS.items()
)
