"""The commands that run the bench: pytest over the claims and over the timings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.errors import BadInput

if TYPE_CHECKING:
    import pytest

CLEAN, MISSED, BROKEN, UNDECIDED = 0, 1, 2, 3  # exit codes, of quantbench gate too


def run(options: argparse.Namespace) -> int:
    """``quantbench run``: run claims and judge them."""
    if options.device != "cpu":
        from quantbench.system.machine import device

        device(options.device)  # an error before anything starts
    if options.workers != 1:
        _finish(options)
    more = [f"--qb-device={options.device}"]
    more += [] if options.hours is None else [f"--qb-hours={options.hours}"]
    more += [f"--junitxml={Path(options.junit).absolute()}"] if options.junit else []
    more += [f"--qb-summary={Path(options.summary).absolute()}"] if options.summary else []
    more += ["--qb-github"] if options.github else []
    return _claims(options, "test_claims.py", "test_integer.py", more=more)


def _finish(options: argparse.Namespace) -> None:
    """Run the cells first, several at once; the claims then find them finished."""
    from quantbench.claims.select import asked_for
    from quantbench.runs.lab import Lab
    from quantbench.runs.workers import finish
    from quantbench.system.progress_bar import progress_bar

    if options.workers < 1:
        raise BadInput(f"--workers {options.workers}: how many cells run at once, 1 or more")
    claims = asked_for(options.papers, options.select, options.tier, options.hours)
    lab = Lab(Path(options.runs), options.device, progress_bar())
    with lab.ledger.lock():
        finish(claims, lab, options.workers)


def report(options: argparse.Namespace) -> int:
    """``quantbench report``: judge finished cells again, which writes it; skip all others."""
    if not Path(options.runs).is_dir():
        raise BadInput(
            f"there is no folder {options.runs!r} of finished runs: quantbench run makes one"
        )
    # modules as they are compiled: pytest would rewrite the assertions of all of this project
    return _claims(options, "test_claims.py", more=("--qb-finished", "--assert=plain"))


def latency(options: argparse.Namespace) -> int:
    """``quantbench latency``: time side by side, then write a page of what was measured."""
    from quantbench.report import latency_page, latency_tracking, write
    from quantbench.system.atomic import locked

    timing = (f"--qb-seconds={options.seconds}", f"--qb-threads={options.threads}")
    more = ("-s", f"--qb-runs={options.runs}", *timing, "-k", options.select)
    status = _pytest("test_latency.py", "test_linear.py", more=more)
    runs = Path(options.runs)
    if path := latency_page.write(runs):
        print(f"report: {path}")
        with locked(runs):
            print(write.recorded(runs, lambda: latency_tracking.upload(runs)))
    return status


def _claims(options: argparse.Namespace, *files: str, more: Iterable[str]) -> int:
    """Run files of the bench on the claims that were asked for."""
    from quantbench.claims.select import chosen

    # errors before pytest starts
    if not chosen(options.papers, options.select, options.tier):
        tier = f" in the {options.tier} tier" if options.tier else ""
        none = f"no claim matches {options.select!r}{tier}; quantbench list shows them all"
        print(f"quantbench: {none}", file=sys.stderr)
        return 2
    asked = [f"--qb-runs={options.runs}", f"--qb-select={options.select}"]
    asked += [f"--qb-paper={paper}" for paper in options.papers]
    asked += [f"--qb-tier={options.tier}"] if options.tier else []
    return _pytest(*files, more=(*asked, *more))


def _pytest(*files: str, more: Iterable[str]) -> int:
    """Pytest over files of the installed bench, with settings of its own; the exit code.

    Raises:
        KeyboardInterrupt: it was interrupted.

    """
    import pytest

    import quantbench.bench
    from quantbench.pytest_plugin import UNDECIDED_ONLY
    from quantbench.system.interrupt import INTERRUPTED

    bench = Path(next(iter(quantbench.bench.__path__)))
    settings = ["--rootdir", str(bench), "-c", str(bench / "pytest.ini"), "-p", "no:cacheprovider"]
    # other people's plugins, and some of pytest's own, take seconds and have no part in this
    settings += ["--disable-plugin-autoload", "-p", "quantbench", "-p", "benchmark"]
    # the ledger has the times: no folder .benchmarks is left where the user stands
    settings += [f"--benchmark-storage=file://{os.devnull}"]
    settings += [word for name in _WITHOUT for word in ("-p", f"no:{name}")]
    quiet = ["-q", "--no-header", "--import-mode=importlib"]
    words, noticed = [*(str(bench / file) for file in files), *settings, *quiet, *more], _Noticed()
    status = pytest.main(words, plugins=[noticed])
    if noticed.interrupted or int(status) == INTERRUPTED:
        raise KeyboardInterrupt
    known = {
        pytest.ExitCode.OK: CLEAN,
        pytest.ExitCode.TESTS_FAILED: MISSED,
        UNDECIDED_ONLY: UNDECIDED,
    }
    return known.get(int(status), BROKEN)


_WITHOUT = (
    *("doctest", "faulthandler", "legacypath", "logging", "pastebin"),
    *("setuponly", "stepwise", "threadexception", "unraisableexception"),
)


class _Noticed:
    """Tells an interrupt from what else pytest ends with the same status."""

    interrupted = False

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Asked by pytest."""
        self.interrupted = excinfo.type is KeyboardInterrupt  # not a session that stops by itself
