"""One line on the terminal that says what is running and how long it will take."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from quantbench.system.pace import OFTEN, SELDOM, Pace

if TYPE_CHECKING:
    import pytest

    from quantbench.report.bench import Row


class Status:
    """Says what is running and how long it will take."""

    def __init__(self, config: pytest.Config) -> None:
        self.reporter = config.pluginmanager.getplugin("terminalreporter")
        self.capture = config.pluginmanager.getplugin("capturemanager")
        self.live = bool(self.reporter and self.reporter.isatty)
        self.label, self.shown, self.pace = "", 0.0, Pace()

    def claim(self, label: str) -> None:
        """A new claim begins."""
        self.label, self.shown, self.pace = label, time.perf_counter(), Pace()

    def line(self, row: Row) -> None:
        """A claim has its verdict; skipped ones wait for the summary."""
        if self.reporter is None or row.verdict.outcome == "SKIP":
            return
        from quantbench.report.table import ours

        found = f"{row.claim.asks} | ours {ours(row)}"
        self._write(f"{row.verdict.outcome:<10}  {row.claim.id}  {found}  {row.seconds:.1f} s")

    def __call__(self, done: int, total: int, what: str) -> None:
        """Progress within a cell; a terminal shows it live, a log every half minute."""
        now = time.perf_counter()
        told = self.pace.told(done, total, now)
        if self.reporter is None or now - self.shown < (OFTEN if self.live else SELDOM):
            return
        self.shown = now
        self._write(f"{self.label}: {what} {told}", passing=True)

    def _write(self, text: str, *, passing: bool = False) -> None:
        """Past pytest's capture, at once; on a terminal the next line overwrites a passing one."""
        with self.capture.global_and_fixture_disabled() if self.capture else nullcontext():
            if self.live:
                width = self.reporter._tw.fullwidth - 1  # noqa: SLF001 - no public way
                self.reporter.rewrite(text[:width] if passing else "", erase=True)
            if not (self.live and passing):
                self.reporter.write_line(text)
            self.reporter.flush()
