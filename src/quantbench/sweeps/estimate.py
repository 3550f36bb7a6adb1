"""How long a sweep will take, from what the ledger says that such runs took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from quantbench.runs.cell import Cell

# What two runs may have in common, from the nearest kin to the farthest that still says something.
_KIN: tuple[Callable[[Mapping[str, Any], str], Hashable], ...] = (
    lambda f, given: (f["model"], given, f["calib_n"], _bits(f)),
    lambda f, given: (f["model"], given),
    lambda f, _: (f["model"], f["method"]["name"]),
)


@dataclass
class Times:
    """Seconds of finished runs, by how near they are to another.

    Attributes:
        seconds: of every degree of kinship, by what the runs have in common.

    """

    seconds: list[dict[Hashable, list[float]]] = field(
        default_factory=lambda: [defaultdict(list) for _ in _KIN]
    )

    def add(self, fields: Mapping[str, Any], seconds: float) -> None:
        """A run with this key took so long."""
        given = _given(fields)
        for kin, times in zip(_KIN, self.seconds, strict=True):
            times[kin(fields, given)].append(seconds)

    def estimate(self, cell: Cell) -> float | None:
        """Median seconds of the nearest kin; ``None`` where no such method ran on the network."""
        fields = cell.key_fields()
        given = _given(fields)
        for kin, times in zip(_KIN, self.seconds, strict=True):
            if found := times.get(kin(fields, given)):
                return median(found)
        return None


def in_words(seconds: float) -> str:
    """In words: ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _given(fields: Mapping[str, Any]) -> str:
    """The method with its fields."""
    return str(sorted(fields["method"].items(), key=str))


def _bits(fields: Mapping[str, Any]) -> Hashable:
    scheme = fields["scheme"] or {}
    return tuple((scheme.get(part) or {}).get("bits") for part in ("weights", "acts"))
