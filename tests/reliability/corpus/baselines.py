"""Accepted baselines that were damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.evidence.result import pack
from quantbench.gate.accepted import Accepted
from quantbench.gate.baseline import Baseline
from tests.reliability.corpus.row import Bad, file

KIND = "a machine"

EVENT = {"value": 75.0, "date": "2026-11-29", "commit": "c", "kind": KIND, "why": ""}

GATE = ("gate", "--baseline", "b.json", "--runs", "runs")


def whole(path: Path) -> None:
    """A baseline of one cell."""
    scores = pack(np.array([1, 1, 0, 1] * 4, bool), "bits")
    about: dict[str, Any] = {"method": {"bits": 4}}
    cell = Accepted(75.0, scores, "top1", 16, "bits", "", "e0", about, {KIND: "m"}, (EVENT,))
    Baseline({"shapes/resnet8/w4/nearest/shapes/test/s0-0": cell}).write(path)


def _bytes(wrong: str, content: bytes, *says: str) -> Bad:
    return Bad("baselines", wrong, file("b.json", content), GATE, ("b.json", *says))


def _changed(wrong: str, change: Callable[[dict[str, Any]], object], *says: str) -> Bad:
    """A whole one, with another value."""

    def make(folder: Path) -> None:
        path = folder / "b.json"
        whole(path)
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return Bad("baselines", wrong, make, GATE, ("b.json", *says))


def _cell(wrong: str, **values: object) -> Bad:
    def change(held: dict[str, Any]) -> None:
        for cell in held["cells"].values():
            cell.update(values)

    return _changed(wrong, change, "is damaged")


def _folder(folder: Path) -> None:
    (folder / "b.json").mkdir()


ROWS = (
    Bad("baselines", "not there", lambda _: None, GATE, ("b.json", "quantbench accept")),
    Bad("baselines", "a folder", _folder, GATE, ("b.json", "is damaged")),
    _bytes("empty", b"", "is damaged"),
    _bytes("not UTF-8", b"\xff\xfe", "is damaged"),
    _bytes("a list", b"[]", "is damaged"),
    _bytes("lists without end", b"[" * 100_000, "is damaged"),
    _changed("of another format", lambda h: h.update(format=9), "format 9", "reads 2"),
    _changed("no cells", lambda h: h.pop("cells"), "is damaged", "cells"),
    _changed("no machines", lambda h: h.update(kinds=None), "is damaged"),
    _changed("claims that are a list", lambda h: h.update(claims=[1]), "is damaged"),
    _cell("scores that are no base64", scores="#"),
    _cell("scores of fewer examples", n=99),
    _cell("a number of examples in words", n="sixteen"),
    _cell("no examples", n=0),
    _cell("an accuracy in words", value="high"),
    _cell("an accuracy that is NaN", value=float("nan")),
    _cell("a history that is none", history=None),
    _cell("settings that are a number", settings=4),
    _cell("marks of an unknown machine", marks={"ffff": "m"}),
    _cell("a latency without its backend", latency=[{"batch": 1}]),
    _cell("a packing of none", packing="zip"),
)
