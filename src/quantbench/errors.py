"""Errors written for the person who meets them: what was wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QuantbenchError(Exception):
    """Base of every error that the command line prints without a traceback (status 2)."""


class BadInput(QuantbenchError):
    """A value of the user that cannot be worked with: NaN weights, unknown bits, no examples."""


class CannotWrite(QuantbenchError):
    """Results cannot be kept: a run stops, for what follows would be lost too."""


class DataMissing(QuantbenchError):
    """Data named by a claim is not on this machine; becomes SKIP.

    Args:
        name: what is missing, such as ``cifar10/test``.
        command: the command that would make it available.

    """

    def __init__(self, name: str, command: str) -> None:
        """Store both parts; the report prints them in separate columns."""
        super().__init__(f"{name} is not here; to get it: {command}")
        self.name = name
        self.command = command


class DataCorrupt(QuantbenchError):
    """Data is here but is not what it should be: digest, length, or code in it."""


class Unsupported(QuantbenchError):
    """A method, network and scheme do not go together; the text is the reason of a REFUSED."""


MOST_SHOWN = 60


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean X?``, or what there is when nothing is close, unless that is too much."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=3, cutoff=0.5):
        return f"; did you mean {' or '.join(close)}?"
    if len(known) > MOST_SHOWN:
        some = " and ".join(known[:: len(known) // 2][:2])
        return f"; there are {len(known)}, such as {some}: quantbench list shows all"
    return f"; there are {', '.join(known)}"
