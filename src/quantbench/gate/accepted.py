"""What the baseline keeps of a cell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from quantbench.evidence.result import unpack


@dataclass(frozen=True)
class Accepted:
    """What is kept of a cell.

    Attributes:
        value: accepted metric, in points.
        scores: of every example, packed as :mod:`quantbench.evidence.result` does.
        metric: what the scores are.
        n: examples.
        packing: of ``scores``.
        gold: packed reference similarities, for ``spearman`` only.
        eval: digest of the evaluation set.
        settings: every field of method and scheme, those at their default too; no versions.
        marks: what the run is bit for bit, by kind of machine; see :func:`mark`.
        history: what was accepted, oldest first: ``value``, ``date``, ``commit``, ``kind``,
            ``why``.
        best: scores of the best that was accepted, where ``scores`` are not: losses that are each
            too small to show add up against these.
        discordant: share of the examples in which two kinds of machines differ; ``None`` while only
            one is accepted.
        latency: rows as :func:`quantbench.gate.pace.kept` makes them.

    """

    value: float
    scores: str
    metric: str
    n: int
    packing: Literal["bits", "f4"]
    gold: str
    eval: str
    settings: Mapping[str, Any]
    marks: Mapping[str, str]
    history: tuple[Mapping[str, Any], ...]
    best: str = ""
    discordant: float | None = None
    latency: tuple[Mapping[str, Any], ...] = ()

    def unpacked(self, packed: str) -> NDArray[Any]:
        """Scores (n,) of what ``scores``, ``best`` or ``gold`` hold."""
        return unpack(packed, self.packing, self.n)

    @property
    def examples(self) -> tuple[str, int, str]:
        """What the scores are of: digest of the evaluation set, number of examples, metric."""
        return self.eval, self.n, self.metric


def mark(digest: str, scores: str) -> str:
    """Short digest of a quantized network and of the packed scores that it gave."""
    return hashlib.sha256(f"{digest} {scores}".encode()).hexdigest()[:16]
