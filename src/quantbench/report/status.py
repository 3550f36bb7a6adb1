"""One line on the terminal that says what is running and how long it will take."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from quantbench.report.bench import Row

OFTEN, SELDOM = 0.5, 30  # seconds between two lines: on a terminal, in a log

HOURS = 2  # from which on the time left is told in hours


class Status:
    """Says what is running and how long it will take."""

    def __init__(self, config: pytest.Config) -> None:
        self.reporter = config.pluginmanager.getplugin("terminalreporter")
        self.capture = config.pluginmanager.getplugin("capturemanager")
        self.live = bool(self.reporter and self.reporter.isatty)
        self.label, self.shown = "", 0.0
        self.begun: tuple[float, int, int] | None = None  # when, at which step, of how many
        self.last = 0

    def claim(self, label: str) -> None:
        """A new claim begins."""
        self.label, self.shown, self.begun = label, time.perf_counter(), None

    def line(self, row: Row) -> None:
        """A claim has its verdict; skipped ones wait for the summary."""
        if self.reporter is None or row.verdict.outcome == "SKIP":
            return
        from quantbench.report.table import ours

        found = f"{row.claim.asks} | ours {ours(row)}"
        self._write(f"{row.verdict.outcome:<10}  {row.claim.id}  {found}  {row.seconds:.1f} s")

    def __call__(self, done: int, total: int, what: str) -> None:
        """Progress within a cell; a terminal shows it live, a log every half minute.

        The time left follows from the pace since these steps began, without those that an earlier
        run had done.
        """
        now = time.perf_counter()
        if self.begun is None or total != self.begun[2] or done < self.last:
            self.begun = now, done, total
        self.last = done
        if self.reporter is None or now - self.shown < (OFTEN if self.live else SELDOM):
            return
        self.shown = now
        start, before, _ = self.begun
        left = (now - start) / (done - before) * (total - done) if done > before else 0.0
        shown = f"{left / 60:.1f} min" if left < HOURS * 3600 else f"{left / 3600:.1f} h"
        eta = f", {shown} left" if done > before else ""
        self._write(f"{self.label}: {what} [{done}/{total}{eta}]", passing=True)

    def _write(self, text: str, *, passing: bool = False) -> None:
        """Past pytest's capture, at once; on a terminal the next line overwrites a passing one."""
        with self.capture.global_and_fixture_disabled() if self.capture else nullcontext():
            if self.live:
                width = self.reporter._tw.fullwidth - 1  # noqa: SLF001 - no public way
                self.reporter.rewrite(text[:width] if passing else "", erase=True)
            if not (self.live and passing):
                self.reporter.write_line(text)
            self.reporter.flush()
