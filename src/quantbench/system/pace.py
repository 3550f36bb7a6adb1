"""The time that long work still takes, in words."""

from __future__ import annotations

from dataclasses import dataclass

OFTEN, SELDOM = 0.5, 30.0  # seconds between two lines: for somebody who watches, in a log

HOURS = 2  # from which on the time left is told in hours


@dataclass
class Pace:
    """The time left, from the pace since these steps began.

    Steps that an earlier run had done do not count; another total is other work.

    Attributes:
        begun: when, at which step, of how many.
        last: step that was told.

    """

    begun: tuple[float, int, int] | None = None
    last: int = 0

    def told(self, done: int, total: int, now: float) -> str:
        """Such as ``[3/10, 4.5 min left]``; without a time where nothing is known of the pace."""
        if self.begun is None or total != self.begun[2] or done < self.last:
            self.begun = now, done, total
        self.last = done
        start, before, _ = self.begun
        if done <= before:
            return f"[{done}/{total}]"
        left = (now - start) / (done - before) * (total - done)
        shown = f"{left / 60:.1f} min" if left < HOURS * 3600 else f"{left / 3600:.1f} h"
        return f"[{done}/{total}, {shown} left]"
