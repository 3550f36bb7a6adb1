"""pytest plugin: runs claims as tests, one line each with progress and time left, and a table of verdicts at the end.

Nothing heavy is imported until a claim runs.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quantbench.errors import CannotWrite, DataMissing, QuantbenchError, Unsupported
from quantbench.report.rows import Row

if TYPE_CHECKING:
    from quantbench.claims.claim import Claim
    from quantbench.evidence.result import Result
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the bench; ``quantbench run`` passes them on."""
    group = parser.getgroup("quantbench", "reproduction of quantization papers")
    group.addoption(
        "--qb-paper", action="append", help="only this paper's claims; may be given several times"
    )
    group.addoption(
        "--qb-select",
        default="",
        metavar="EXPR",
        help="only claims that match, such as 'w2a4 not resnet18'",
    )
    group.addoption(
        "--qb-tier", choices=("embedded", "long", "real", "online"), help="only claims of this tier"
    )
    group.addoption(
        "--qb-finished", action="store_true", help="judge finished runs only; start none"
    )
    group.addoption(
        "--qb-runs", default="runs", metavar="FOLDER", help="where results are kept (default: runs)"
    )
    group.addoption(
        "--qb-seconds", type=float, default=6.0, help="time for each latency table (default: 6)"
    )
    group.addoption(
        "--qb-threads",
        type=int,
        default=1,
        help="latency also, and exactness, on this many; 0: all cores",
    )
    group.addoption(
        "--qb-images", type=int, default=0, help="exactness on this many images; 0: all (default)"
    )
    group.addoption(
        "--qb-from", type=int, default=0, help="exactness from this image on (default: 0)"
    )
    group.addoption(
        "--qb-oracle",
        type=int,
        default=0,
        help="of which the oracle sees this many; 0: all (default)",
    )
    group.addoption(
        "--qb-backends",
        default="",
        metavar="NAMES",
        help="exactness of these too, such as intmm,onednn",
    )
    group.addoption(
        "--qb-device", default="cpu", help="device to quantize and evaluate on (default: cpu)"
    )


@dataclass
class Bench:
    """What a bench test talks to: the lab, the terminal, and the verdicts so far."""

    lab: Lab
    status: Status
    finished: bool = False
    rows: list[Row] = field(default_factory=list)
    cells: list[tuple[str, Cell]] = field(default_factory=list)

    def check(self, claim: Claim) -> None:
        """Judge a claim and turn the verdict into the test's outcome."""
        from quantbench.evidence.judge import judge
        from quantbench.evidence.verdict import Outcome, skipped

        start = time.perf_counter()
        cells: dict[int, Cell] = {}
        runs, against = dict[int, "Result"](), dict[int, "Result"]()
        try:
            cells, rivals = ({}, {}) if claim.skip else self.lab.cells(claim)
            self.status.claim(claim.id)
            runs, against = self._results(claim, cells), self._results(claim, rivals)
            verdict = judge(claim, runs, against)  # a claim with a reason to skip is skipped
        except (DataMissing, Unsupported) as e:
            verdict = skipped(claim, *_why(e))
        row = Row(claim, verdict, cells, runs, time.perf_counter() - start, against)
        self.rows.append(row)
        self.status.line(row)
        if verdict.outcome == Outcome.SKIP:
            pytest.skip(verdict.explain())
        if verdict.outcome == Outcome.XFAIL:
            pytest.xfail(verdict.explain())
        if verdict.fails:
            pytest.fail(f"{claim.where}\n{verdict.explain()}", pytrace=False)

    def _results(self, claim: Claim, cells: dict[int, Cell]) -> dict[int, Result]:
        """Results by seed: all of them, or only those that are finished."""
        self.cells += [(claim.paper, c) for c in cells.values()]
        read = self.lab.ledger.get if self.finished else self.lab.result
        return {s: r for s, c in cells.items() if (r := read(c))}


def _why(error: DataMissing | Unsupported) -> tuple[str, str]:
    """Reason and mending command of a skip."""
    return (
        (f"{error.name} is not here", error.command)
        if isinstance(error, DataMissing)
        else (str(error), "")
    )


class Status:
    """One line on the terminal that says what is running and how long it will take."""

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

        text = f"{row.verdict.outcome:<10}  {row.claim.id}  {row.claim.published} | ours {ours(row)}  {row.seconds:.1f} s"
        self._write(text)

    def __call__(self, done: int, total: int, what: str) -> None:
        """Progress within a cell; a terminal shows it live, a log every half minute.

        The time left follows from the pace since these steps began, without those that an earlier
        run had done.
        """
        now = time.perf_counter()
        if self.begun is None or total != self.begun[2] or done < self.last:
            self.begun = now, done, total
        self.last = done
        if self.reporter is None or now - self.shown < (0.5 if self.live else 30):
            return
        self.shown = now
        start, before, _ = self.begun
        left = (now - start) / (done - before) * (total - done) if done > before else 0.0
        eta = f", {left / 60:.1f} min left" if done > before else ""
        text = f"{self.label}: {what} [{done}/{total}{eta}]"
        self._write(text, passing=True)

    def _write(self, text: str, *, passing: bool = False) -> None:
        """Past pytest's capture, at once; on a terminal a passing line is overwritten by the next."""
        with self.capture.global_and_fixture_disabled() if self.capture else nullcontext():
            if self.live:
                self.reporter.rewrite(
                    text[: self.reporter._tw.fullwidth - 1] if passing else "", erase=True
                )
            if not (self.live and passing):
                self.reporter.write_line(text)
            self.reporter.flush()


@pytest.fixture(scope="session")
def quantbench(request: pytest.FixtureRequest) -> Generator[Bench]:
    """The session's bench; the ledger is locked while it lives, and MLflow brought up to date when it ends."""
    from quantbench.runs.lab import Lab

    config = request.config
    runs, status = Path(config.getoption("qb_runs")), Status(config)
    try:
        bench = Bench(
            Lab(runs, config.getoption("qb_device"), status),
            status,
            config.getoption("qb_finished"),
        )
        with bench.lab.ledger.lock():
            config.stash[_BENCH] = bench
            yield bench
    except QuantbenchError as e:  # such as another run on the same ledger
        pytest.exit(str(e), returncode=2)


_BENCH: pytest.StashKey[Bench] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Errors written for people are shown without a traceback."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(QuantbenchError):
        report.longrepr = f"{item.name}: {call.excinfo.value}"
        if call.excinfo.errisinstance(CannotWrite):
            item.session.shouldstop = "results cannot be kept"
    return report


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """No dots between the lines of the bench."""
    if (
        config.stash.get(_BENCH, None) is None
        or report.when != "call"
        or "test_claim[" not in report.nodeid
    ):
        return None
    return ("xfailed" if hasattr(report, "wasxfail") else report.outcome), "", ""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of verdicts, the report's files and MLflow."""
    bench = config.stash.get(_BENCH, None)
    if bench is None or not bench.rows:
        return
    from quantbench.report.write import write

    try:
        for line in write(bench.lab.runs, bench.rows, bench.lab.ledger, bench.cells):
            terminalreporter.write_line(line)
    except QuantbenchError as e:  # finished cells are kept; quantbench report writes it again
        terminalreporter.write_line(f"quantbench: no report: {e}")
