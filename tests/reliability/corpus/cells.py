"""Cells of the ledger that were damaged: they are named, moved aside and run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantbench.runs.ledger import Ledger
from tests.helpers.records import cell, result
from tests.reliability.corpus.row import Bad, file

# what reads all cells, and runs none
COUNT = (
    *("sweep", "--methods", "nearest", "--cells", "w4", "--networks", "shapes/resnet8"),
    *("--dry-run", "--runs", "runs"),
)

AGAIN = ("is damaged", "moved to", "will run again")


def whole(folder: Path) -> Path:
    """A ledger of one cell; its file."""
    return Ledger(folder / "runs" / "cells").put(cell(), result())


def signed(record: dict[str, Any]) -> str:
    """A record with the checksum that fits it."""
    plain = {k: v for k, v in record.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True)
    return json.dumps({**plain, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def _bytes(wrong: str, damage: Callable[[bytes], bytes]) -> Bad:
    def make(folder: Path) -> None:
        path = whole(folder)
        path.write_bytes(damage(path.read_bytes()))

    return Bad("cells", wrong, make, COUNT, (".json", *AGAIN), code=0)


def _signed(wrong: str, change: Callable[[dict[str, Any]], object]) -> Bad:
    """With a checksum that fits: written by something else."""

    def damage(content: bytes) -> bytes:
        record = json.loads(content)
        change(record)
        return signed(record).encode()

    return _bytes(wrong, damage)


def _folder(folder: Path) -> None:
    path = whole(folder)
    path.unlink()
    path.mkdir()


ROWS = (
    _bytes("empty", lambda _: b""),
    _bytes("truncated", lambda raw: raw[:-20]),
    _bytes("zeros, as after a power cut", lambda raw: bytes(len(raw))),
    _bytes("a list", lambda _: b"[]"),
    _bytes("not UTF-8", lambda _: b"\xff\xfe"),
    _bytes("lists without end", lambda _: b"[" * 100_000),
    _bytes("one digit changed", lambda raw: raw.replace(b'"seed": 0', b'"seed": 1')),
    _bytes("NaN", lambda raw: raw.replace(b'"size_bytes": 0', b'"size_bytes": NaN')),
    _signed("under another key", lambda r: r.update(key="0" * 64)),
    _signed("an id that is a number", lambda r: r.update(id=7)),
    _signed("fields that are a list", lambda r: r.update(cell=[1])),
    _signed("no method", lambda r: r["cell"].pop("method")),
    _signed("an origin that is a text", lambda r: r.update(made="here")),
    _signed("an origin that is a number", lambda r: r["made"].update(machine=7)),
    _signed("scores of another length", lambda r: r["result"].update(n=7)),
    _signed("no examples", lambda r: r["result"].update(n=0)),
    _signed("a packing of none", lambda r: r["result"].update(packing="zip")),
    _signed("times that are a list", lambda r: r["result"].update(seconds=[1])),
    _signed("a time in words", lambda r: r["result"].update(seconds={"tuning": "long"})),
    _signed("a latency without samples", lambda r: r["result"].update(latency=[{"batch": 1}])),
    _signed("a result of more", lambda r: r["result"].update(run="x")),
    Bad("cells", "a folder", _folder, COUNT, (".json", "cannot be read")),
    Bad("cells", "a file in place of the folder", file("runs/cells", ""), COUNT, ("runs/cells",)),
    Bad(
        "cells", "no folder of runs", file("x", ""), ("report", "--runs", "nowhere"), ("'nowhere'",)
    ),
)
