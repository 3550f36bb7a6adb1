"""Reading a TOML file and checking its tables, with errors that name the line.

``tomllib`` does not say where a value stood.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Self, TypeGuard

from quantbench.errors import BadInput, did_you_mean

Spec = Mapping[str, str | tuple[str, ...]]  # key: the kind of value, or the choices

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")


class Written(float):
    """A number that remembers its last printed digit: ``68.70`` says more than ``68.7``."""

    half_unit: float  # of that digit

    def __new__(cls, text: str) -> Self:
        """Read the text, as ``tomllib`` hands it over."""
        number = super().__new__(cls, text)
        try:
            exponent = Decimal(text).as_tuple().exponent
        except InvalidOperation:  # an exponent of more than 18 digits
            exponent = 0
        # as text, which goes to infinity or to 0 where a power of ten would be an error
        number.half_unit = float(f"0.5e{exponent}") if isinstance(exponent, int) else 0.0
        return number


def read(text: str, name: str, number: Callable[[str], Any] = float) -> dict[str, Any]:
    """The tables of a file.

    Args:
        text: the file's content.
        name: the file's name, for the errors.
        number: what becomes of a number with a point or an exponent.

    Raises:
        BadInput: no TOML; names file and, where it is known, the line.

    """
    try:
        return tomllib.loads(text, parse_float=number)
    except tomllib.TOMLDecodeError as e:
        at = re.search(r"at line (\d+)", str(e))
        raise BadInput(f"{name}:{at[1] if at else len(text.splitlines())}: {e}") from e
    except RecursionError as e:
        raise BadInput(f"{name}: lists or tables are nested too deeply") from e
    except ValueError as e:  # Python's own limit
        raise BadInput(f"{name}: a whole number has too many digits") from e


def half_unit(number: float) -> float:
    """Half a unit of the last digit that was written."""
    return number.half_unit if isinstance(number, Written) else 0.5


def plain(value: Any) -> Any:
    """A value of a file without the memory of its digits."""
    if isinstance(value, list):
        return tuple(plain(v) for v in value)
    return float(value) if isinstance(value, Written) else value


def is_number(value: object) -> TypeGuard[float]:
    """A finite number; TOML's true, nan and inf are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _table(value: object) -> bool:
    return isinstance(value, dict)


_FITS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text that is not empty", lambda v: isinstance(v, str) and bool(v.strip())),
    "number": ("a finite number", is_number),
    "positive": ("a finite number, zero or more", lambda v: is_number(v) and v >= 0),
    "count": (
        "a whole number from 1",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1,
    ),
    "date": ('a day such as "2026-11-29"', lambda v: isinstance(v, str) and _is_day(v)),
    "texts": (
        "a list of texts",
        lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v),
    ),
    "truth": ("true or false", lambda v: isinstance(v, bool)),
    "table": ("a table", _table),
    "tables": (
        "tables with a header in double brackets",
        lambda v: isinstance(v, list) and all(isinstance(x, dict) for x in v),
    ),
}


def fault(
    values: Mapping[str, Any], spec: Spec, shown: str, need: Iterable[str] = ()
) -> tuple[str, str] | None:
    """The first key that is wrong and what is wrong with it; ``None`` when all is well."""
    for key, value in values.items():
        if key not in spec:
            return key, f"unknown key {key!r} in {shown}{did_you_mean(key, spec)}"
        kind = spec[key]
        if isinstance(kind, tuple):
            if value not in kind:
                return key, f"{key} = {value!r}{did_you_mean(str(value), kind)}"
        elif not _FITS[kind][1](value):
            return key, f"{key} = {value!r}: must be {_FITS[kind][0]}"
    missing = [key for key in need if key not in values]
    return ("", f"{shown} has no {' and no '.join(missing)}") if missing else None


@dataclass(frozen=True)
class Text:
    """A file's name and content, and where in it a table or key stands.

    A table is named as in its header, ``[[claim]]`` tables by ``claim`` and their number from 0.
    """

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The file line by line."""
        return self.text.splitlines()

    @cached_property
    def headers(self) -> list[tuple[int, str]]:
        """Index of the line and name, without quotes, of every table's header."""
        return [
            (i, m[1].replace('"', ""))
            for i, line in enumerate(self.lines)
            if (m := _HEADER.match(line))
        ]

    def line(self, table: str, key: str = "", nth: int = 0) -> int:
        """Line, from 1, of a key in a table.

        It is that of the table's header where the key has no line of its own.
        """
        starts = [i for i, name in self.headers if name == table] if table else [-1]
        if len(starts) <= nth:
            parent, _, last = table.rpartition(".")
            return self.line(parent, last) if last else 1
        end = next((i for i, _ in self.headers if i > starts[nth]), len(self.lines))
        for part in (key, key.partition(".")[0]):
            pattern = re.compile(rf'\s*"?{re.escape(part)}"?\s*[.=]')
            inside = range(starts[nth] + 1, end) if part else ()
            found = next((i for i in inside if pattern.match(self.lines[i])), None)
            if found is not None:
                return found + 1
        return max(starts[nth] + 1, 1)

    def error(self, what: str, table: str, key: str = "", nth: int = 0) -> BadInput:
        """An error that says where."""
        return BadInput(f"{self.name}:{self.line(table, key, nth)}: {what}")

    def require(
        self,
        values: Mapping[str, Any],
        spec: Spec,
        table: str,
        nth: int = 0,
        need: Iterable[str] = (),
    ) -> None:
        """Check a table of the file.

        Raises:
            BadInput: an unknown key, a value of another kind, a needed key that is missing.

        """
        if found := fault(values, spec, f"[{table}]" if table else "the file", need):
            raise self.error(found[1], table, found[0], nth)
