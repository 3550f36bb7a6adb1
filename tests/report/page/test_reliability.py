"""The figures of docs/reliability.md on the page: all tables, and nothing without the file."""

import pytest

from quantbench.data import roots
from quantbench.report import write
from quantbench.report.page import build
from quantbench.report.page.reliability import of_markdown
from quantbench.runs.lab import Lab
from tests.reliability.page import page
from tests.reliability.test_kills import FOUND


def test_every_table_of_the_document_is_read():
    text = page(FOUND)
    found = of_markdown(text)
    assert found.about.startswith("What happens when a machine")
    assert "nox -s reliability in 52 minutes" in found.about
    heads = [line for line in text.splitlines() if line.startswith("| ---")]
    assert len(found.tables) == len(heads)
    tables = {table.title: table for table in found.tables}
    assert tables["Kills"].head[:2] == ("command", "seconds")
    assert tables["Kills"].rows == (("run", "9.5", "7", "1", "2", "0"),)
    assert ("loss, night 481", "loss") in {row[1:] for row in tables["Nightly gates"].rows}
    assert all(len(row) == len(table.head) for table in found.tables for row in table.rows)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(roots.cache_root()))  # as it is, for the bundle
    monkeypatch.setattr(roots, "clone_root", lambda: tmp_path)
    monkeypatch.setattr(roots, "in_clone", lambda: True)
    (tmp_path / "docs").mkdir()
    return tmp_path


def test_the_page_shows_them_folded(clone):
    (clone / "docs" / "reliability.md").write_text(page(FOUND), encoding="utf-8")
    text = build.page([], Lab(clone), build.About(reliability=write._reliability()))
    start = text.index('<section id="reliability">')
    section = text[start : text.index("</section>", start)]
    assert section.index("<details") < section.index("<table")
    for cell in ("<td>67,670</td>", "<td>track</td>", "<td>96.0</td>", "<td>9.4</td>"):
        assert cell in section
    assert 'href="#reliability"' in text


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"# Reliability\n\nNo table.\n"])
def test_without_them_there_is_no_section(clone, content):
    if content is not None:
        (clone / "docs" / "reliability.md").write_bytes(content)
    text = build.page([], Lab(clone), build.About(reliability=write._reliability()))
    assert 'id="reliability"' not in text
    assert 'href="#reliability"' not in text
