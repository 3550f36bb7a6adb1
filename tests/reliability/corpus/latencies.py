"""Tables of measured latencies that were damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from quantbench.latency.accuracy import Accuracy
from quantbench.latency.interleaved import Latency
from quantbench.latency.table import LayerTime, Table
from tests.reliability.corpus.row import Bad, file


def whole() -> dict[str, Any]:
    """A table of two rows."""
    row = Latency("native w4a8", 1, 1, 1.0, 1.1, 1.2, 0.9, 40, 2.0)
    other = replace(row, what="openvino w8a8")
    layers = {row.what: (LayerTime("fc", "linear", 0.5, 100, 10),)}
    away, goals, sizes = {other.what: (1.0, 0.1)}, {"w4a8": 1.0}, {"w4": 9}
    found = {row.what: Accuracy(0.9, 0.99, 100)}
    measured = Table("a/b", 1, "m", (row, other), away, goals, sizes, layers, 1e9, 1e9)
    return asdict(replace(measured, accuracy=found))


def _bytes(wrong: str, content: bytes) -> Bad:
    says = ("t.json", "not a latency table")
    return Bad(
        "latencies", wrong, file("t.json", content), lambda f: Table.load(f / "t.json"), says
    )


def _changed(wrong: str, change: Callable[[dict[str, Any]], object]) -> Bad:
    table = json.loads(json.dumps(whole()))
    change(table)
    return _bytes(wrong, json.dumps(table).encode())


ROWS = (
    _bytes("empty", b""),
    _bytes("a list", b"[]"),
    _bytes("lists without end", b"[" * 100_000),
    _changed("no rows", lambda t: t.pop("rows")),
    _changed("a time of zero", lambda t: t["rows"][0].update(p50=0.0)),
    _changed("a time in words", lambda t: t["rows"][0].update(p90="long")),
    _changed("a name that is a number", lambda t: t["rows"][0].update(what=4)),
    _changed("a name without its scheme", lambda t: t["rows"][0].update(what="native")),
    _changed("a layer without its kernel", lambda t: t["layers"]["native w4a8"][0].pop("kind")),
)
