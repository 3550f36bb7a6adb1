"""The ledger: a JSON file per finished cell, safe against kill -9, full disks, two runs."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantbench.errors import BadInput
from quantbench.evidence.result import Result
from quantbench.runs.cell import Cell, key_of
from quantbench.runs.machine_kind import machine_kind
from quantbench.system.atomic import locked, write_atomically
from quantbench.system.machine import fingerprint, git_commit


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


@dataclass(frozen=True)
class Stored:
    """A finished cell as read back.

    Attributes:
        key: name of its file.
        id: readable name.
        fields: the key's fields.
        result: what it found.
        made: when (``at``), on which ``machine``, on what ``kind`` of machine, from which
            ``commit``.
        digest: of the whole record.

    """

    key: str
    id: str
    fields: Mapping[str, Any]
    result: Result
    made: Mapping[str, str]
    digest: str


@dataclass(frozen=True)
class Ledger:
    """Finished cells under a folder such as ``runs/cells``.

    Reading needs no lock: a file is whole or absent.

    Attributes:
        folder: made when needed.
        report: told about damaged files, which are moved aside and never used.

    """

    folder: Path
    report: Callable[[str], None] = _to_stderr

    def path(self, key: str) -> Path:
        """File of one cell."""
        return self.folder / f"{key}.json"

    def find(self, cell: Cell) -> Stored | None:
        """The cell's record, if the cell is finished."""
        return self.at(cell.key())

    def get(self, cell: Cell) -> Result | None:
        """The cell's result, if the cell is finished."""
        found = self.find(cell)
        return found.result if found else None

    def at(self, key: str) -> Stored | None:
        """The record under a key, if there is one."""
        return self._read(self.path(key))

    def stored(self) -> Iterator[Stored]:
        """All finished cells, in order of their keys."""
        for path in sorted(self.folder.glob("*.json")):
            if found := self._read(path):
                yield found

    def put(self, cell: Cell, result: Result, made: Mapping[str, str] | None = None) -> Path:
        """Store a finished cell: written aside, flushed to the disk, renamed into place.

        Args:
            cell: which.
            result: what it found.
            made: when and where, of :func:`made_here`; by default now and here.

        Raises:
            BadInput: the result holds NaN or infinity.
            QuantbenchError: the disk is full or not writable; what was stored before stays as it
                was.

        """
        fields = cell.key_fields()
        key = key_of(fields)
        record = {
            "key": key,
            "id": cell.id,
            "cell": fields,
            "result": result.to_json(),
            "made": made or made_here(cell.device),
        }
        try:
            text = json.dumps({**record, "sha256": _digest(record)}, allow_nan=False)
        except ValueError as e:
            raise BadInput(
                f"{cell.id}: its result holds NaN or infinity, so the run failed and is not stored"
            ) from e
        write_atomically(self.path(key), text)
        return self.path(key)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs off this ledger, see :func:`quantbench.system.atomic.locked`."""
        return locked(self.folder)

    def why(self, cell: Cell) -> str:
        """Whether the cell is finished and, if not, what distinguishes it from the nearest one."""
        fields, key = cell.key_fields(), cell.key()
        if self.at(key):
            return f"{cell.id} is finished: {self.path(key)}"
        method = cell.described.name
        alike = [s for s in self.stored() if _about(s) == (method, cell.model)]
        if not alike:
            return (
                f"{cell.id} is not finished: no run of {method} on {cell.model} is stored in "
                f"{self.folder}"
            )
        differences = {s.key: changes(s.fields, fields) for s in alike}
        nearest = min(differences, key=lambda key: len(differences[key]))
        first = f"{cell.id} is not finished. The nearest stored run, {nearest[:12]}, differs in"
        return "\n  ".join([first, *differences[nearest]])

    def _read(self, path: Path) -> Stored | None:
        """One file, checked; a damaged one is moved aside."""
        try:
            return _parse(path.read_text(), path.stem)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise BadInput(
                f"{path} cannot be read ({e.strerror}): is --runs a folder of runs?"
            ) from e
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            # ValueError: JSON, base64 and UTF-8 too
            self._set_aside(path, f"{type(e).__name__}: {e}")
            return None

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = self.folder / "damaged" / path.name
        aside.parent.mkdir(exist_ok=True)
        path.replace(aside)
        self.report(f"{path} is damaged ({reason}); moved to {aside}, and its cell will run again")


def made_here(device: str) -> dict[str, str]:
    """When, where and from what code a run was made that ends now."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": fingerprint(),
        "kind": machine_kind(device),
        "commit": git_commit(Path(__file__).parent),
    }


def _about(record: Stored) -> tuple[str, str]:
    """Names of the method and the network."""
    return record.fields["method"]["name"], record.fields["model"]


def _parse(text: str, key: str) -> Stored:
    record = json.loads(text)
    digest = record.pop("sha256")
    if digest != _digest(record) or record["key"] != key:
        raise ValueError("its contents do not match its checksum")
    if key_of(record["cell"]) != key:
        raise ValueError("its key is of other fields")
    made = record["made"]
    if not all(isinstance(text, str) for text in (record["id"], *made.values())):
        raise TypeError("its name, or when and where it was made, is no text")
    return Stored(
        key,
        record["id"],
        record["cell"],
        Result.from_json(record["result"]),
        made,
        digest,
    )


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested fields by dotted path."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for name, part in items:
        found |= flat(part, f"{path}.{name}" if path else str(name))
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line per field that differs between two keys."""
    absent, old, new = "(absent)", flat(before), flat(after)
    return [
        f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}"
        for name in sorted({*old, *new})
        if old.get(name, absent) != new.get(name, absent)
    ]
