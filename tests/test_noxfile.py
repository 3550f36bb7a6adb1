"""The sessions of nox that judge: what one command finds does not hide what the other does."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


class CommandFailed(Exception):
    """As nox raises it where a command ends with no success code."""


class SessionFailed(Exception):
    """As nox raises it for session.error."""


@pytest.fixture
def noxfile(monkeypatch):
    """The file, on a stand-in for nox: the suite need not have it installed."""
    nox, command = ModuleType("nox"), ModuleType("nox.command")
    nox.session = lambda f=None, **_: f or (lambda g: g)
    nox.options, nox.Session = SimpleNamespace(), object
    command.CommandFailed = CommandFailed
    monkeypatch.setitem(sys.modules, "nox", nox)
    monkeypatch.setitem(sys.modules, "nox.command", command)
    spec = importlib.util.spec_from_file_location("a_noxfile", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_install", lambda *_: None)
    return module


class Session:
    """Commands end with the codes given by their second word."""

    posargs = ("adaround",)

    def __init__(self, codes):
        self.codes, self.ran = codes, []

    def run(self, *command, success_codes=(0,)):
        self.ran.append(command)
        if self.codes.get(command[1], 0) not in success_codes:
            raise CommandFailed

    def error(self, text):
        raise SessionFailed(text)


@pytest.mark.parametrize(
    ("run", "gate", "blamed"),
    [
        (0, 0, ""),
        (3, 3, ""),  # undecided only
        (1, 0, "quantbench run failed"),
        (2, 0, "quantbench run failed"),
        (0, 1, "quantbench gate failed"),
        (3, 2, "quantbench gate failed"),
        (1, 1, "quantbench run and quantbench gate failed"),
    ],
)
def test_the_gate_always_compares_and_fails_when_either_does(noxfile, run, gate, blamed):
    session = Session({"run": run, "gate": gate})
    if blamed:
        with pytest.raises(SessionFailed, match=blamed):
            noxfile.gate(session)
    else:
        noxfile.gate(session)
    assert [command[1] for command in session.ran] == ["data", "run", "gate"]
    assert all(command[-1] == "adaround" for command in session.ran[1:])


@pytest.mark.parametrize(("code", "fails"), [(0, False), (3, False), (1, True), (2, True)])
def test_reproduce_fails_on_what_is_missed_and_not_on_what_is_undecided(noxfile, code, fails):
    session = Session({"run": code})
    if fails:
        with pytest.raises(CommandFailed):
            noxfile.reproduce(session)
    else:
        noxfile.reproduce(session)


def test_interrupts_are_timed_where_no_other_test_runs(noxfile):
    session = Session({})
    noxfile.interrupts(session)
    assert session.ran[-1] == ("pytest", noxfile.INTERRUPTS, "adaround")
    assert (ROOT / noxfile.INTERRUPTS).is_file()


def test_ci_runs_the_tests_then_the_embedded_claims_and_the_gate():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-2].endswith("&& .venv/bin/nox -s tests || exit")
    assert lines[-1] == ".venv/bin/nox -s gate -- --tier embedded"


def test_the_docs_have_an_example_of_the_report(noxfile, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    example = tmp_path / "docs" / "example" / "example-report.html"
    example.parent.mkdir(parents=True)
    page = tmp_path / "tmp" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    about = '<p class="about">Report of a day, commit abc; a machine</p>'
    page.write_text(f"{about}<script>vega</script>a report<script>x</script>")
    session = Session({"report": 1})  # a miss is shown as well
    session.create_tmp = lambda: str(tmp_path / "tmp")
    noxfile.docs(session)
    assert [command[:2] for command in session.ran] == [
        ("quantbench", "data"),
        ("quantbench", "report"),
        ("sphinx-build", "-W"),
    ]
    link = '<script src="example-vega.js"></script>'
    assert example.read_text() == f"{noxfile.EXAMPLE}{link}a report<script>x</script>"
    assert example.with_name("example-vega.js").read_text() == "vega"


def test_the_example_that_is_committed_is_a_whole_page_and_no_large_one(noxfile):
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    frames = re.findall(r'<iframe src="([^"]+)"', page)
    assert frames
    for frame in frames:  # what html_extra_path copies
        text = (ROOT / "docs" / "example" / frame).read_text(encoding="utf-8")
        assert noxfile.EXAMPLE in text
        assert text.rstrip().endswith("</html>")
        assert '<script src="example-vega.js"></script>' in text  # which git ignores
        assert len(text.encode()) < 1_000_000


@pytest.mark.parametrize(("processors", "gibibytes", "asked"), [(2, 23, 2), (16, 30, 7), (4, 2, 1)])
def test_as_many_cells_at_once_as_processors_and_memory_allow(
    noxfile, monkeypatch, processors, gibibytes, asked
):
    known = {"SC_PHYS_PAGES": gibibytes * 2**18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(noxfile.os, "sysconf", known.__getitem__)
    monkeypatch.setattr(noxfile.os, "cpu_count", lambda: processors)
    session = Session({})
    noxfile.reproduce(session)
    assert session.ran[-1] == ("quantbench", "run", "--workers", str(asked), "adaround")
