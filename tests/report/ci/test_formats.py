"""What a CI system reads: well-formed, complete, and with nothing that breaks its syntax."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.errors import CannotWrite
from quantbench.evidence.verdict import Outcome, Verdict
from quantbench.gate.finding import Finding, Status
from quantbench.report.ci.case import Case, of_findings, of_rows
from quantbench.report.ci.formats import LONGEST, github, junit, summary
from quantbench.report.ci.write import Wanted, write

CASES = [
    Case("cell", "a/b", "moved", "error", "90.00 -> 89.00", "reference/a.toml", 7, 1.5),
    Case("cell", "c", "gain", "warning", "better"),
    Case("cell", "d", "not here", "skipped", "imagenet/val is not here"),
    Case("cell", "e", "identical", "passed"),
]

LEVELS = st.sampled_from(["error", "warning", "skipped", "passed"])
ANY = st.builds(Case, st.text(), st.text(), st.text(), LEVELS, st.text(), st.text())


def test_junit_counts_and_says_why():
    suite = ET.fromstring(junit(CASES, "quantbench gate")).find("testsuite")
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    first, second, third, last = suite
    assert (first.get("classname"), first.get("name"), first.get("time")) == (
        "cell",
        "a/b",
        "1.500",
    )
    assert (first.find("failure").get("message"), first.find("failure").text) == (
        "moved",
        "90.00 -> 89.00",
    )
    assert "gain" in second.find("system-out").text
    assert third.find("skipped").text == "imagenet/val is not here"
    assert len(last) == 0


@given(st.lists(ANY, max_size=5))
def test_junit_of_any_text_is_xml(cases):
    found = ET.fromstring(junit(cases, "x")).iter("testcase")
    assert len(list(found)) == len(cases)


@given(st.lists(ANY, max_size=5))
def test_an_annotation_is_one_line_whatever_it_says(cases):
    lines = github(cases)
    assert len(lines) == sum(c.level in ("error", "warning") for c in cases)
    for line in lines:
        assert re.fullmatch(r"::(error|warning) [^\n\r]*?::[^\n\r]*", line)


def test_an_annotation_points_to_the_claim():
    first, second = github(CASES)
    assert first == "::error file=reference/a.toml,line=7,title=moved%3A a/b::90.00 -> 89.00"
    assert second == "::warning title=gain%3A c::better"


def test_the_summary_counts_everything_and_shows_errors_first():
    text = summary(CASES, "quantbench gate")
    assert "1 moved, 1 gain, 1 not here, 1 identical" in text
    loud, _, quiet = text.partition("<details><summary>1 skipped</summary>")
    assert [_first(part) for part in (loud, quiet)] == [["moved", "gain"], ["not here"]]
    assert quiet.rstrip().endswith("</details>")
    many = summary([CASES[0]] * (LONGEST + 5), "x")
    assert "5 more" in many
    assert "a \\| b<br>c" in summary([Case("g", "n", "w", "error", "a | b\nc")], "x")


def _first(text):
    """First cells of the rows of a table."""
    return [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")][1:]


def test_a_summary_is_added_to_and_junit_written_anew(tmp_path):
    said = []
    wanted = Wanted(str(tmp_path / "deep" / "j.xml"), True, str(tmp_path / "s.md"))
    for _ in range(2):
        write(CASES, "quantbench gate", wanted, said.append)
    assert (tmp_path / "s.md").read_text().count("## quantbench gate") == 2
    assert (tmp_path / "deep" / "j.xml").read_text().count("<testsuite ") == 1
    assert len(said) == 4
    with pytest.raises(CannotWrite, match="cannot write"):
        write(CASES, "x", Wanted(summary=str(tmp_path / "no" / "s.md")))


def test_findings_and_rows_become_cases():
    found = [
        Finding("cell", "a", Status.MOVED),
        Finding("cell", "b", Status.GAIN),
        Finding("cell", "c", Status.NOT_HERE),
        Finding("cell", "d", Status.IDENTICAL),
        Finding("claim", "e", Status.UNDECIDED),
    ]
    levels = ["error", "warning", "skipped", "passed", "warning"]
    assert [c.level for c in of_findings(found)] == levels
    claim = SimpleNamespace(paper="p", id="p/x", where="reference/p.toml:12")
    outcomes = [Outcome.MISSED, Outcome.UNDECIDED, Outcome.SKIP, Outcome.HOLDS]
    rows = [
        SimpleNamespace(claim=claim, verdict=Verdict(o, gates=True), seconds=1.0) for o in outcomes
    ]
    cases = of_rows(rows, [("test_latency[x]", "Traceback")])
    assert [c.level for c in cases] == ["error", "warning", "skipped", "passed", "error"]
    assert (cases[0].file, cases[0].line) == ("reference/p.toml", 12)
    assert cases[-1].word == "crashed"


def test_what_looks_like_html_is_text_in_a_summary():
    text = summary([Case("cell", "<details>|x", "moved", "error", "a </table> & b\nc")], "t")
    assert "| moved | &lt;details&gt;\\|x | a &lt;/table&gt; &amp; b<br>c |" in text
