"""pytest plugin: claims as tests, a line each with progress and time left, and a table of verdicts.

Nothing heavy is imported until a claim runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quantbench.errors import CannotWrite, QuantbenchError
from quantbench.system.interrupt import INTERRUPTED

if TYPE_CHECKING:
    from quantbench.report.bench import Bench

_OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {"action": "append", "help": "only this paper's claims; may be given several times"},
    "select": {
        "default": "",
        "metavar": "EXPR",
        "help": "only claims that match, such as 'w2a4 not resnet18'",
    },
    "tier": {
        "choices": ("embedded", "long", "real", "online"),
        "help": "only claims of this tier",
    },
    "hours": {
        "type": float,
        "metavar": "N",
        "help": "also claims that take up to so many hours on two cores (default: 2)",
    },
    "finished": {"action": "store_true", "help": "judge finished runs only; start none"},
    "runs": {
        "default": "runs",
        "metavar": "FOLDER",
        "help": "where results are kept (default: runs)",
    },
    "seconds": {"type": float, "default": 6.0, "help": "time for each latency table (default: 6)"},
    "threads": {
        "type": int,
        "default": 1,
        "help": "latency also, and exactness, on this many; 0: all cores",
    },
    "images": {"type": int, "default": 0, "help": "exactness on this many images; 0: all"},
    "from": {"type": int, "default": 0, "help": "exactness from this image on (default: 0)"},
    "oracle": {"type": int, "default": 0, "help": "of which the oracle sees this many; 0: all"},
    "backends": {
        "default": "",
        "metavar": "NAMES",
        "help": "exactness of these too, such as intmm,onednn",
    },
    "device": {"default": "cpu", "help": "device to quantize and evaluate on (default: cpu)"},
    "github": {"action": "store_true", "help": "print GitHub annotations"},
    "summary": {"metavar": "FILE", "help": "append a summary in Markdown"},
}

_BENCH: pytest.StashKey[Bench] = pytest.StashKey()

_SESSION: pytest.StashKey[pytest.Session] = pytest.StashKey()

_MISSED: pytest.StashKey[bool] = pytest.StashKey()  # a test failed by what it found

_NO_DATA = (
    "nothing was judged: no claim that was asked for has its data here; "
    "quantbench data pull brings them, or the command beside each SKIP"
)

UNDECIDED_ONLY = 8  # exit status; pytest has 0 to 5 for itself, and 3 means that it broke


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the bench; ``quantbench run`` passes them on."""
    group = parser.getgroup("quantbench", "reproduction of quantization papers")
    for name, about in _OPTIONS.items():
        group.addoption(f"--qb-{name}", **about)
    group.addoption(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="with --pyargs quantbench.conformance: the method that is to conform, or all",
    )


@pytest.fixture(scope="session")
def quantbench(request: pytest.FixtureRequest) -> Generator[Bench]:
    """The session's bench; the ledger is locked while it lives."""
    from quantbench.report.bench import Bench
    from quantbench.report.status import Status
    from quantbench.runs.lab import Lab

    config = request.config
    status = Status(config)
    try:
        lab = Lab(Path(config.getoption("qb_runs")), config.getoption("qb_device"), status)
        with lab.ledger.lock():
            config.stash[_BENCH] = Bench(lab, status, config.getoption("qb_finished"))
            yield config.stash[_BENCH]
    except QuantbenchError as e:  # such as another run on the same ledger
        pytest.exit(str(e), returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Errors written for people are shown without a traceback."""
    report = yield
    if report.failed and call.excinfo is not None:
        found = call.excinfo.errisinstance((pytest.fail.Exception, AssertionError))
        item.config.stash[_MISSED] = found or item.config.stash.get(_MISSED, False)
    if call.excinfo is not None and call.excinfo.errisinstance(QuantbenchError):
        report.longrepr = f"{item.name}: {call.excinfo.value}"
        if call.excinfo.errisinstance(CannotWrite):
            item.session.shouldstop = "results cannot be kept"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """Whoever interrupts a run does not wait for the report, which takes seconds."""
    try:
        return (yield)
    except KeyboardInterrupt as e:
        # a session that stops by itself raises a kind of it
        if type(e) is not KeyboardInterrupt or session.config.stash.get(_BENCH, None) is None:
            raise
        pytest.exit("interrupted", returncode=INTERRUPTED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that could not work is no miss, and one with something undecided is not clean."""
    config, status = session.config, session.exitstatus
    config.stash[_SESSION] = session
    bench = config.stash.get(_BENCH, None)
    if bench is None:
        return
    if status == pytest.ExitCode.TESTS_FAILED and not config.stash.get(_MISSED, False):
        session.exitstatus = pytest.ExitCode.INTERRUPTED
    elif status == pytest.ExitCode.OK and bench.lacks_data:
        session.exitstatus = pytest.ExitCode.INTERRUPTED  # a CI that looked at nothing is not clean
    elif status == pytest.ExitCode.OK and any(row.verdict.undecided for row in bench.rows):
        session.exitstatus = UNDECIDED_ONLY


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """No dots between the lines of the bench; undecided claims are counted beside the passed."""
    shown = report.when == "call" and "test_claim[" in report.nodeid
    if config.stash.get(_BENCH, None) is None or not shown:
        return None
    if report.passed and dict(report.user_properties).get("undecided"):
        return "undecided", "", ""
    return ("xfailed" if hasattr(report, "wasxfail") else report.outcome), "", ""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of verdicts, the report's files and MLflow; what a CI system reads."""
    bench = config.stash.get(_BENCH, None)
    if bench is None:
        return
    from quantbench.report.write import write
    from quantbench.system.progress_bar import progress_bar

    written, say = True, terminalreporter.write_line
    if bench.rows:
        about = bench.lab.runs, bench.rows, bench.lab.ledger, bench.cells
        told = write(*about, progress_bar())
        written = _say(told, say)
    if bench.lacks_data:
        say(f"quantbench: {_NO_DATA}")
    try:
        _tell_ci(terminalreporter, config, bench)
    except QuantbenchError as e:
        say(f"quantbench: {e}")
        written = False
    session = config.stash[_SESSION]
    if not written and session.exitstatus in (pytest.ExitCode.OK, UNDECIDED_ONLY):
        session.exitstatus = pytest.ExitCode.INTERRUPTED  # what was asked for is not there


def _say(lines: Generator[str, None, bool], say: Callable[[str], object]) -> bool:
    """Say every line; what the generator returns."""
    try:
        while True:
            say(next(lines))
    except StopIteration as end:
        return bool(end.value)


def _tell_ci(terminalreporter: Any, config: pytest.Config, bench: Bench) -> None:
    """Annotations and summary of the verdicts, and of tests that ended without one."""
    from quantbench.report.ci.case import Case, of_rows
    from quantbench.report.ci.write import Wanted, write

    judged = {f"test_claim[{row.claim.id}]" for row in bench.rows}
    ended = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
    named = [(report.nodeid.rpartition("::")[2], report.longreprtext) for report in ended]
    crashed = [(name, text) for name, text in named if name not in judged]
    cases = of_rows(bench.rows, crashed)
    if bench.lacks_data:
        cases.append(Case("run", "all claims", "no data", "error", _NO_DATA))
    wanted = Wanted(None, config.getoption("qb_github"), config.getoption("qb_summary"))
    write(cases, "quantbench run", wanted, terminalreporter.write_line)
