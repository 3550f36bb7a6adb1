"""What the gate finds: one word for each accepted or finished thing, and whether it fails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The words as they are printed."""

    # cells
    IDENTICAL = "identical"  # bit for bit what was accepted on this kind of machine
    UNCHANGED = "unchanged"  # from another kind of machine, and no loss shows
    GAIN = "gain"  # from another kind of machine, better by more than chance
    LOSS = "loss"  # from another kind of machine, worse by more than chance
    MOVED = "moved"  # the accepted kind of machine, and not the accepted bits
    DEFAULT = "changed default"  # a field that no claim sets has another value than when accepted
    OTHER_DATA = "other data"  # the accepted run saw other examples
    NEW = "new"  # finished, and nothing is accepted
    MISSING = "missing"  # accepted and asked for, and its run did not finish
    ORPHANED = "orphaned"  # accepted, and no claim makes it any more
    NOT_HERE = "not here"  # accepted and asked for, and its data are not on this machine
    ABSENT = "absent"  # accepted and not asked for
    # claims that gate
    RETARGETED = "retargeted"
    REMOVED = "claim removed"
    NEW_CLAIM = "new claim"
    MISSED = "missed"  # by the verdict on its finished runs
    UNDECIDED = "undecided"
    # latency
    SLOWER = "slower"
    FASTER = "faster"
    OTHER_MACHINE = "other machine"
    NO_FLOAT32 = "no float32 calls"


PASSES = (
    *(Status.IDENTICAL, Status.UNCHANGED, Status.GAIN, Status.NOT_HERE, Status.ABSENT),
    *(Status.UNDECIDED, Status.OTHER_MACHINE, Status.NO_FLOAT32),
)

BY_STATISTICS = (Status.UNCHANGED, Status.GAIN, Status.LOSS)  # of a cell: no accepted bits

UNSEEN = (Status.NOT_HERE, Status.ABSENT)  # accepted, and not compared with anything

QUIET = (Status.IDENTICAL, Status.UNCHANGED, Status.ABSENT)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: ``cell``, ``all cells``, ``claim`` or ``latency``.
        name: id of the cell or claim; of a latency also backend and batch.
        status: in one word.
        detail: what was measured, and what to do.

    """

    about: str
    name: str
    status: Status
    detail: str = ""

    @property
    def fails(self) -> bool:
        """Whether somebody must look: mend it, or accept it."""
        new_row = self.about == "latency" and self.status == Status.NEW
        return self.status not in PASSES and not new_row

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"{self.name}: {self.status}" + (f", {self.detail}" if self.detail else "")
