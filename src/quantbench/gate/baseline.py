"""The accepted baseline: a JSON file, one line for each cell and each claim."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.errors import BadInput
from quantbench.gate.accepted import Accepted
from quantbench.system.atomic import write_atomically

FORMAT = 2

PACKED = ("scores", "best", "gold")  # of a cell


@dataclass(frozen=True)
class Baseline:
    """What the file holds.

    Attributes:
        cells: accepted, by id.
        claims: those that gate, by id: ``fields`` as :func:`quantbench.claims.gating.gating_fields`
            gives them, ``why`` and ``date`` of their last change.
        forgotten: accepted cells and claims that were dropped since nothing makes them any more:
            ``name``, ``value``, ``date``, ``why``.

    """

    cells: Mapping[str, Accepted] = field(default_factory=dict)
    claims: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forgotten: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a file; nothing is accepted where there is none.

        Raises:
            BadInput: it is damaged, or of another format.

        """
        if not path.exists():
            return cls()
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            if held.get("format") != FORMAT:
                raise BadInput(
                    f"{path} has format {held.get('format', 1)}, this version reads {FORMAT}: "
                    "take it from git again, or remove it, run, and accept anew"
                )
            cells = {i: _sound(cell, held["kinds"]) for i, cell in held["cells"].items()}
            claims = {i: {"fields": dict(c["fields"]), **c} for i, c in held["claims"].items()}
            return cls(cells, claims, tuple(held["forgotten"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise BadInput(
                f"{path} is damaged ({type(e).__name__}: {e}): take it from git again"
            ) from e

    def write(self, path: Path) -> None:
        """Write the file anew, whole or not at all; a line for each thing, for readable diffs.

        Raises:
            CannotWrite: the disk is full or not writable.

        """
        names = {k: _short(k) for cell in self.cells.values() for k in _kinds(cell)}
        cells = {i: _plain(cell, names) for i, cell in self.cells.items()}
        parts = [
            f'"format": {FORMAT}',
            f'"kinds": {_rows({short: kind for kind, short in names.items()})}',
            f'"claims": {_rows(self.claims)}',
            f'"cells": {_rows(cells)}',
            f'"forgotten": {_lines(map(_line, self.forgotten), "[]")}',
        ]
        write_atomically(path, "{" + ",\n".join(parts) + "}\n")


def _kinds(cell: Accepted) -> Iterable[str]:
    """All kinds of machines that a cell names; a run of an older version names none."""
    return filter(None, (*cell.marks, *(event["kind"] for event in cell.history)))


def _short(kind: str) -> str:
    return hashlib.sha256(kind.encode()).hexdigest()[:8]


def _plain(cell: Accepted, names: Mapping[str, str]) -> dict[str, Any]:
    """A cell as the file has it: kinds by their short names, empty fields left out."""
    plain = {k: v for k, v in asdict(cell).items() if v not in ("", None, ())}
    history = [{**h, "kind": names.get(h["kind"], "")} for h in cell.history]
    if cell.packing == "f4":
        plain |= {name: _squeezed(plain[name]) for name in PACKED if name in plain}
    return plain | {"marks": {names[k]: m for k, m in cell.marks.items()}, "history": history}


def _squeezed(packed: str) -> str:
    """Scores that are floats take a fifth of the room when they are mostly 0 and 1, as F1 is."""
    return base64.b64encode(zlib.compress(base64.b64decode(packed), 9)).decode()


def _unsqueezed(text: str) -> str:
    """Packed scores again; ValueError if they are damaged."""
    try:
        return base64.b64encode(zlib.decompress(base64.b64decode(text))).decode()
    except zlib.error as e:
        raise ValueError(str(e)) from e


def _sound(cell: Mapping[str, Any], kinds: Mapping[str, str]) -> Accepted:
    """A cell, all that is read later looked at; ValueError, KeyError or TypeError if it is none."""
    marks = {kinds[short]: str(m) for short, m in cell["marks"].items()}
    history = tuple(
        {**h, "value": float(h["value"]), "kind": kinds.get(h["kind"], h["kind"])}
        for h in cell["history"]
    )
    squeezed = [name for name in PACKED if name in cell and cell["packing"] == "f4"]
    scores = {name: _unsqueezed(cell[name]) for name in squeezed}
    made = Accepted(**{"gold": "", **cell, **scores, "marks": marks, "history": history})
    for packed in filter(None, (made.scores, made.best, made.gold)):
        made.unpacked(packed)
    if not all(math.isfinite(value) for value in (made.value, *(h["value"] for h in history))):
        raise ValueError("an accepted value is NaN or infinite")
    dict(made.settings)
    for row in made.latency:
        [str(row[k]) for k in ("backend", "batch", "machine")], np.asarray(row["ratios"], float)
    return made


def _rows(values: Mapping[str, Any]) -> str:
    return _lines((f"{json.dumps(i)}: {_line(values[i])}" for i in sorted(values)), "{}")


def _lines(lines: Iterable[str], around: str) -> str:
    body = ",\n".join(lines)
    return f"{around[0]}\n{body}\n{around[1]}" if body else around


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
