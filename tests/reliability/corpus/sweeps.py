"""Files that are no sweep, and words that contradict each other."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.corpus.row import Bad, file

GOOD = """seeds = 2
cells = ["w4"]

[[network]]
name = "shapes/resnet8"
data = "shapes/test"
calib = { data = "shapes/calib", n = 64 }

[[method]]
name = "nearest"
"""

SWEEP = ("sweep", "sweep.toml", "--dry-run", "--runs", "runs")


def _bytes(wrong: str, content: bytes, *says: str) -> Bad:
    return Bad("sweeps", wrong, file("sweep.toml", content), SWEEP, ("sweep.toml", *says))


def _changed(wrong: str, old: str, new: str, *says: str) -> Bad:
    return _bytes(wrong, GOOD.replace(old, new).encode(), *says)


def _elsewhere(wrong: str, old: str, new: str, *says: str) -> Bad:
    """What is wrong is known only where the networks and data are looked up."""
    content = GOOD.replace(old, new)
    return Bad("sweeps", wrong, file("sweep.toml", content), SWEEP, says)


def _words(wrong: str, words: tuple[str, ...], *says: str) -> Bad:
    return Bad("sweeps", wrong, file("sweep.toml", GOOD), ("sweep", *words), says)


def _folder(folder: Path) -> None:
    (folder / "sweep.toml").mkdir()


ROWS = (
    _bytes("no TOML", b"seeds = \n", "Invalid value", "line 1"),
    _bytes("not UTF-8", b"seeds = '\xff'"),
    _bytes("lists without end", b"cells = " + b"[" * 50_000, "nested too deeply"),
    _bytes("empty", b"", "no cells"),
    Bad("sweeps", "a folder", _folder, SWEEP, ("sweep.toml", "cannot be read")),
    Bad("sweeps", "not there", lambda _: None, SWEEP, ("sweep.toml", "cannot be read")),
    _changed("an unknown key", "seeds = 2", "seats = 2", "'seats'", "seeds"),
    _changed("no seeds", "seeds = 2", "seeds = 0", "whole number from 1"),
    _changed("cells that are one text", 'cells = ["w4"]', 'cells = "w4"', "a list of texts"),
    _changed("a network that is no table", "[[network]]", "[network]", "network"),
    _changed("a calibration set without its size", ", n = 64", "", "calib has no n"),
    _changed("a method that is not there", '"nearest"', '"nearst"', "did you mean nearest"),
    _changed("a field that is not there", '"nearest"', '"nearest"\nfields = { lr = 1 }', "'lr'"),
    _changed("a grid of one value", '"nearest"', '"adaround"\ngrid = { lr = 0.1 }', "grid.lr"),
    _elsewhere("a network that is not there", "shapes/resnet8", "shapes/resnet9", "shapes/resnet8"),
    _elsewhere("data that are not there", "shapes/test", "shapes/tests", "shapes/test"),
    _words("a file and words", ("sweep.toml", "--methods", "nearest"), "either a file or"),
    _words("a shard of none", (*SWEEP[1:], "--shard", "3/2"), "i from 1 to n"),
    _words("an address without a cluster", (*SWEEP[1:], "--address", "x"), "--engine ray"),
)
