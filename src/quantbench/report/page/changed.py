"""The examples that a quantized network answers otherwise, and pictures that may be shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from quantbench.evidence.result import Result

LISTED = 300  # positions of each kind, at most; the count is of all

POSITIONS = 40_000  # of a page, whose size they would soon be most of

PICTURES = 6  # of each kind of a claim

MOST = 500  # pictures of a page, each a kilobyte

SAME = 0.5  # of a score that is no correctness: what differs by less is no other answer

RENDERED = ("shapes/",)  # drawn by this project: nobody else's pictures are copied


@dataclass(frozen=True)
class Changed:
    """What differs from full precision in one run.

    Attributes:
        lost: positions that only full precision has right.
        won: positions that only the quantized network has right.
        n: examples.

    """

    lost: tuple[int, ...]
    won: tuple[int, ...]
    n: int


def changed(result: Result) -> Changed | None:
    """What differs; ``None`` where answers to single examples are not right or wrong."""
    if result.metric not in ("top1", "f1"):
        return None
    worse = result.fp_scores.astype(np.float32) - result.scores.astype(np.float32)
    lost, won = (np.flatnonzero(sign * worse >= SAME).tolist() for sign in (1, -1))
    return Changed(tuple(lost), tuple(won), result.n)


def room(claims: int) -> int:
    """Positions of each kind that a page of so many claims lists."""
    return max(20, min(LISTED, POSITIONS // max(1, 2 * claims)))


def listed(positions: Sequence[int], most: int = LISTED) -> str:
    """Positions as text, the first ones where there are many."""
    text = ", ".join(str(p) for p in positions[:most])
    more = len(positions) - most
    return f"{text}, and {more} more" if more > 0 else text


class Pictures:
    """Pictures of the page by set and position; each is in it once, however many claims show it."""

    def __init__(self) -> None:
        self.known: dict[str, dict[int, str]] = {}

    def of(self, data: str, positions: Sequence[int]) -> list[int]:
        """Positions, the first few, of which there is a picture."""
        if not data.startswith(RENDERED):
            return []
        wanted = list(positions[:PICTURES])
        here = self.known.setdefault(data, {})
        new = [p for p in wanted if p not in here]
        if new and sum(map(len, self.known.values())) + len(new) <= MOST:
            here.update(_pictures(data, new))
        return [p for p in wanted if p in here]


def _pictures(data: str, positions: Sequence[int]) -> dict[int, str]:
    """WebP as data URIs; none where the set is not here."""
    from PIL import Image

    from quantbench.data.images import images

    try:
        pixels = images(data).x
    except QuantbenchError:
        return {}
    found = {}
    for position in positions:
        if position < len(pixels):
            file = io.BytesIO()
            Image.fromarray(np.asarray(pixels[position])).save(file, "WEBP", quality=80)
            text = base64.b64encode(file.getvalue()).decode()
            found[position] = f"data:image/webp;base64,{text}"
    return found
