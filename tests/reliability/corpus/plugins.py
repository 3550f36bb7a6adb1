"""Installed packages that bring methods or claims and cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quantbench.claims import catalog
from quantbench.quantization import registry
from tests.reliability.corpus.claims import GOOD
from tests.reliability.corpus.row import Bad, package

SHOW = ("show", "broken")


def _module(code: str, group: str, point: str = "broken:It") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        home = package(folder, "broken", group, {"broken": point})
        (home / "__init__.py").write_text(code)

    return make


def _method(wrong: str, code: str, *says: str, point: str = "broken:It") -> Bad:
    made = _module(code, registry.GROUP, point)
    return Bad("plugins", wrong, made, SHOW, ("method 'broken'", *says))


def _claims(wrong: str, code: str, *says: str, point: str = "broken") -> Bad:
    made = _module(code, catalog.GROUP, point)
    return Bad("plugins", wrong, made, ("list",), ("entry point 'broken'", *says))


def _taken(folder: Path) -> None:
    """Two packages with the same claim."""
    for name in ("one", "two"):
        home = package(folder, name, catalog.GROUP, {name: name})
        (home / "__init__.py").write_text("")
        (home / "mine.toml").write_text(GOOD)


DATACLASS = "from dataclasses import dataclass\n"

ROWS = (
    _method("raises ValueError", "raise ValueError('no licence')", "ValueError: no licence"),
    _method("raises its own error", "class E(Exception): ...\nraise E('odd')", "E: odd"),
    _method("ends the process", "import sys\nsys.exit(0)", "SystemExit"),
    _method("a library is absent", "import no_such_library", "no_such_library"),
    _method("no Python", "def f(:\n", "SyntaxError", "line 1"),
    _method("no such class", "x = 1", "'It'"),
    _method("no such module", "", "nowhere", point="broken.nowhere:It"),
    _method("an entry point of no form", "", "a b c", point="a b c"),
    _method("a function", "def It(): ...", "frozen dataclass"),
    _method(
        "a dataclass of another kind",
        f"{DATACLASS}@dataclass(frozen=True)\nclass It: ...",
        "frozen dataclass",
    ),
    _claims("claims whose package raises", "raise RuntimeError('no')", "RuntimeError: no"),
    _claims("claims whose package ends the process", "import os, sys\nsys.exit(3)", "SystemExit"),
    _claims("claims whose package is absent", "", "nowhere", point="nowhere"),
    Bad(
        "plugins",
        "a claim that another has",
        _taken,
        ("list",),
        ("two/mine.toml", "one/mine.toml", "rename"),
    ),
)
