"""Bars in terminals and notebooks, and lines in logs, for whoever waits."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from quantbench.system.pace import OFTEN, SELDOM, Pace
from quantbench.system.progress import Progress

DELAY = 1.0  # seconds of work before there is a bar


def progress_bar() -> Progress:
    """What ``quantize`` and ``compare`` take as ``progress``.

    A bar for each thing that goes on; where nobody watches, as in a CI, a line every half minute.
    """
    return _Bars() if watched() else _Lines()


def watched() -> bool:
    """Whether stderr is a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def often() -> float:
    """Seconds between two looks at the same work."""
    return OFTEN if watched() else SELDOM


@dataclass
class _Bars:
    """By what goes on; nothing is shown of what is done at once."""

    shown: dict[str, Any] = field(default_factory=dict)

    def __call__(self, done: int, total: int, what: str) -> None:
        from tqdm.auto import tqdm

        if what not in self.shown:
            for bar in self.shown.values():
                bar.close()
            self.shown = {what: tqdm(total=total, desc=what, delay=DELAY)}
        bar = self.shown[what]
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            self.shown.pop(what).close()


@dataclass
class _Lines:
    """One line every half minute, with the time left."""

    what: str = ""
    pace: Pace = field(default_factory=Pace)
    last: float | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if what != self.what:
            self.what, self.pace = what, Pace()
        told = self.pace.told(done, total, now)
        self.last = now if self.last is None else self.last
        if now - self.last >= SELDOM:
            self.last = now
            print(f"{what} {told}", file=sys.stderr, flush=True)
