"""Claims that are none: TOML files of an installed package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quantbench.claims.catalog import GROUP
from tests.reliability.corpus.row import Bad, package

GOOD = """paper = "mine"
title = "A paper"

[models]
small = { name = "shapes/resnet8", data = "shapes/test", fp = 90.0 }

[sources]
t1 = { table = "1", reported = "authors", status = "read" }

[schemes.default]
weights = { range = "mse" }

[[claim]]
name = "row"
source = "t1"
method = "nearest"
calib = { data = "shapes/calib", n = 64 }
cells.w4 = { small = 68.71 }
"""

WEIGHTS = 'weights = { range = "mse" }'

NUMBER, METHOD, STATUS = "small = 68.71", 'method = "nearest"', 'status = "read"'


def install(content: bytes) -> Callable[[Path], None]:
    """A package with a file of these bytes."""

    def make(folder: Path) -> None:
        home = package(folder, "mine", GROUP, {"mine": "mine"})
        (home / "__init__.py").write_text("")
        (home / "mine.toml").write_bytes(content)

    return make


def _bytes(wrong: str, content: bytes, *says: str) -> Bad:
    return Bad("claims", wrong, install(content), ("list",), ("mine.toml", *says))


def _changed(wrong: str, old: str, new: str, *says: str) -> Bad:
    """The good file with one thing changed; the error names its line."""
    content = GOOD.replace(old, new).encode()
    return Bad("claims", wrong, install(content), ("list",), ("mine.toml:", *says))


ROWS = (
    _bytes("no TOML", b"paper = \n", ":1: Invalid value"),
    _bytes("half a file", GOOD.encode()[:-9], "at end of document"),
    _bytes("not UTF-8", b"paper = '\xff'", "UTF-8"),
    _bytes("zeros", bytes(64), ":1:"),
    _bytes("empty", b"", ":1:", "has no paper"),
    _changed("lists without end", NUMBER, "small = " + "[" * 50_000, "nested too deeply"),
    _changed("a number of 5,000 digits", NUMBER, "small = " + "9" * 5000, "digits"),
    _changed("an unknown key", 'source = "t1"', 'sauce = "t1"', "did you mean source"),
    _changed("no sources", "[sources]\nt1", "[x]\nt1", "unknown key 'x'"),
    _changed(
        "99 bits of one layer's input",
        f"{WEIGHTS}{GOOD.partition(WEIGHTS)[2]}",
        f"{WEIGHTS}\nacts = {{ symmetric = false }}\noverrides = {{ fc = [4, 99] }}"
        f"{GOOD.partition(WEIGHTS)[2].replace('w4', 'w4a8')}",
        "99 bits",
    ),
    _changed("no cells", "cells.w4 = { small = 68.71 }", "", "has no cells"),
    _changed("a paper that is a number", 'paper = "mine"', "paper = 7", "paper = 7"),
    _changed("a cell of no form", "cells.w4", "cells.four", "'four'"),
    _changed("a scheme that is not there", "cells.w4", "cells.w4-ours", "'ours' is not in"),
    _changed("nine bits", "cells.w4", "cells.w9", "9 bits"),
    _changed("a model that is not there", NUMBER, "large = 68.71", "'large' is not in [models]"),
    _changed("a source that is not there", 'source = "t1"', 'source = "t9"', "'t9' is not in"),
    _changed("NaN", NUMBER, "small = nan", "no published number"),
    _changed("an accuracy above 100", NUMBER, "small = 168.71", "168.71"),
    _changed("a list of three numbers", NUMBER, "small = [1, 2, 3]", "no published number"),
    _changed("a range backwards", NUMBER, "small = { value = 9.0, to = 8.0 }", "ends above"),
    _changed("no numbers by model", "{ small = 68.71 }", "68.71", "neither a table"),
    _changed("better than no one", METHOD, f'{METHOD}\nkind = "beats"', "needs a rival"),
    _changed("a tolerance without its reason", METHOD, f"{METHOD}\ntol = 0.5", "tol_why"),
    _changed("calibration on nothing", "n = 64", "n = 0", "whole number from 1"),
    _changed("a status of no kind", STATUS, 'status = "heard"', "'heard'"),
    _changed(
        "hearsay that gates",
        f"{STATUS} }}",
        'status = "recalled" }\n\n[defaults]\ngates = true',
        "may not gate",
    ),
    _changed("a range of no kind", 'range = "mse"', 'range = "most"', "'most'"),
    _changed(
        "a table among the fields",
        METHOD,
        f"{METHOD}\nfields = {{ a = {{ b = 1 }} }}",
        "fields.a is a table",
    ),
    _changed("the same row twice", GOOD, GOOD + GOOD[GOOD.index("[[claim]]") :], "already the id"),
)
