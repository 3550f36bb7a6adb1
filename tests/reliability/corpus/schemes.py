"""Words and tables that name no scheme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import quantbench as qb
from tests.reliability.corpus.row import Bad


def _nothing(_: Path) -> None:
    """A word needs no file."""


def _cell(word: str, wrong: str, *says: str) -> Bad:
    sweep = ("sweep", "--methods", "nearest", "--networks", "shapes/resnet8", "--dry-run")
    return Bad("schemes", wrong, _nothing, (*sweep, "--cells", word), says)


def _call(wrong: str, make: Callable[[], object], *says: str) -> Bad:
    return Bad("schemes", wrong, _nothing, lambda _: make(), says)


def _per_channel() -> qb.Scheme:
    return qb.Scheme(qb.Grid(4), qb.Grid(8, per_channel=True))


ROWS = (
    _cell("9", "a number alone", "name it fp"),
    _cell("w4-ours", "a name that is not there", "'ours' is not in"),
    _cell("w4a8-", "a name that is empty", "name it fp"),
    _cell("W4", "capital letters", "name it fp"),
    _call("nine bits", lambda: qb.scheme("w9"), "'w9'", "2 to 8 bits"),
    _call("one bit", lambda: qb.Grid(1), "1 bits", "from 2 to 8"),
    _call("half a bit", lambda: qb.Grid(4.5), "4.5 bits"),
    _call("a kind of no kind", lambda: qb.Grid(4, kind="cubic"), "'cubic'", "apot"),
    _call("a percentile of none", lambda: qb.Grid(4, range="percentile12"), "above 50"),
    _call("a power of zero", lambda: qb.Grid(4, range="lp0"), "above 0"),
    _call("a grid for each channel of activations", _per_channel, "per_channel=False"),
    _call("a placement of none", lambda: qb.Scheme(qb.Grid(4), placement="both"), "'both'"),
    _call(
        "99 bits of one layer",
        lambda: qb.Scheme(qb.Grid(4), overrides=(qb.Override("fc", 99),)),
        "99 bits",
    ),
)
