"""The document of measured claims: written, read, merged, and found out when it was edited."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.claims.catalog import read_claims
from quantbench.claims.gating import gating_digest
from quantbench.cli.main import main
from quantbench.errors import BadInput
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import Outcome
from quantbench.report.measured.collect import measured, merged
from quantbench.report.measured.document import (
    OUTDATED,
    Measured,
    counts,
    faults,
    from_markdown,
    to_markdown,
)
from quantbench.runs.lab import Lab
from tests.evidence.test_judge import BEATS, CLAIM, LIMIT

FILE = Path(__file__).parents[2] / "reference" / "measured.md"

CLAIMS = {c.id: c for c in (CLAIM, replace(LIMIT, id="limit"), replace(BEATS, id="beats"))}


def row(of=CLAIM, verdict="HOLDS", **changed):
    about = of.id, of.asks, "90.00 (+2.00) [+1.00, +3.00]", "+0.00 [-1.00, +1.00]"
    made = "0123456789ab", "a processor, avx2 fma, torch 2.15", "2026-11-29"
    return replace(Measured(verdict, *about, *made, gating_digest(of)), **changed)


texts = st.text("abc |,:()+[]_5", min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.sampled_from(list(Outcome)), texts, texts, texts), max_size=6))
def test_what_was_written_is_read(given_rows):
    rows = [
        row(verdict=f"{word}({reason})", claim=f"{i} {name}", machine=machine)
        for i, (word, reason, name, machine) in enumerate(given_rows)
    ]
    text = to_markdown(rows)
    again = from_markdown(text, "m.md")
    assert sorted(again, key=lambda r: r.claim) == sorted(rows, key=lambda r: r.claim)
    assert to_markdown(again) == text
    assert counts(rows) in text


def test_the_counts_tell_misses_that_gate_from_those_that_do_not():
    rows = [
        row(verdict=verdict)
        for verdict in (
            *("HOLDS", "BELOW", "TIE(one seed) (not gating)", "TIE(one seed)"),
            *("UNDECIDED(about 300 examples would decide)", "UNDECIDED (not gating)"),
            "outdated: MISSED",
        )
    ]
    assert counts(rows) == (
        "1 BELOW, 1 HOLDS, 2 TIE, 2 UNDECIDED, 1 outdated  (gating: 2 missed, 1 undecided)"
    )


def test_fresh_rows_replace_known_ones_and_the_others_stay_as_they_were():
    beats, limit = CLAIMS["beats"], CLAIMS["limit"]
    known = [row(beats, "AHEAD(one seed)", date="2026-01-01"), row(limit, "HOLDS")]
    gone = row(claim="a claim that was removed")
    easier = replace(beats, rival=replace(beats.rival, method="rounding"))
    found = merged([*known, gone], [row(limit, "MISSED")], [limit, easier])
    assert [r.verdict for r in found] == ["outdated: AHEAD(one seed)", "MISSED"]
    assert found[0].date == "2026-01-01"
    # it is outdated once, and no longer when the claim is what it was
    assert [r.verdict for r in merged(found, [], [beats, limit])] == ["AHEAD(one seed)", "MISSED"]
    assert merged(merged(known, [], [easier]), [], [easier]) == merged(known, [], [easier])


SOUND = to_markdown([row(), row(CLAIMS["limit"], "MISSED")])


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("| MISSED |", "| HOLDS |", "edited"),
        ("| MISSED |", "| PASSED |", "'PASSED' is no verdict"),
        ("| limit |", "| limits |", "no such claim"),
        (gating_digest(CLAIMS["limit"]), gating_digest(CLAIM), "has changed"),
        ("1 MISSED", "0 MISSED", "edited"),
        ("(+2.00)", "(+1.00)", "edited"),
    ],
)
def test_what_was_edited_is_found(old, new, what):
    assert list(faults(SOUND, "m.md", CLAIMS)) == []
    assert SOUND.count(old) >= 1
    assert what in " ".join(faults(SOUND.replace(old, new, 1), "m.md", CLAIMS))


def test_a_row_that_is_none_is_refused_with_its_line():
    broken = SOUND.replace("| HOLDS |", "| HOLDS | more |")
    line = next(i for i, text in enumerate(broken.splitlines(), 1) if "more" in text)
    with pytest.raises(BadInput, match=f"m.md:{line}: no row"):
        from_markdown(broken, "m.md")


def test_the_file_of_this_repository_is_sound():
    text = FILE.read_text(encoding="utf-8")
    assert list(faults(text, str(FILE), {c.id: c for c in read_claims()})) == []


def test_the_readme_has_the_counts_of_every_verdict():
    counts = next(x for x in FILE.read_text(encoding="utf-8").splitlines() if "gating:" in x)
    assert counts in (FILE.parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_how_many_numbers_are_those_of_the_data():
    of_data = {c.id for c in read_claims() if c.source.reported == "data"}
    rows = from_markdown(FILE.read_text(encoding="utf-8"), str(FILE))
    reproduced = [row.claim for row in rows if row.word == Outcome.REPRODUCED]
    said = f"({sum(i in of_data for i in reproduced)} of these {len(reproduced)})"
    assert said in (FILE.parents[1] / "README.md").read_text(encoding="utf-8")


# paper, model, scheme, what is asked, ours with its interval, and the word
SHOWN = re.compile(
    r"^(\S+) +(\S+) +(\S+) +\S.*? {2,}(\d+\.\d\d .*?\[.*?\]) +([A-Z-]+)", re.MULTILINE
)


@pytest.mark.parametrize(("page", "least"), [("README.md", 5), ("docs/results.md", 20)])
def test_rows_that_a_page_shows_are_rows_of_the_file(page, least):
    rows = from_markdown(FILE.read_text(encoding="utf-8"), str(FILE))
    known = {(row.claim.rpartition("/")[0], row.ours, row.word) for row in rows}
    shown = SHOWN.findall((FILE.parents[1] / page).read_text(encoding="utf-8"))
    assert len(shown) >= least
    assert {("/".join(about), ours, word) for *about, ours, word in shown} <= known


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A limit and a comparison on embedded data, finished in one folder of runs each."""
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    full, half = np.ones(1000, bool), np.arange(1000) >= 100
    claims = []
    for name, kind in (("first", "max_drop"), ("second", "beats")):
        claims.append(
            next(
                c
                for c in read_claims("adaround")
                if (c.kind, c.model, c.tier) == (kind, "shapes/resnet8", "embedded") and c.gates
            )
        )
        lab = Lab(tmp_path / name)
        for cells, scores in zip(lab.cells(claims[-1]), (full, half), strict=True):
            for cell in cells.values():
                lab.ledger.put(cell, Result.of(full, scores, "d"))
    return claims


@pytest.mark.slow
def test_the_command_merges_folders_and_keeps_what_is_in_none(finished, tmp_path, capsys):
    limit, beats = finished
    file, folders = tmp_path / "measured.md", [tmp_path / "first", tmp_path / "second"]
    ids = {found.claim: found.verdict for found in measured(finished, folders)}
    assert ids == {limit.id: "HOLDS", beats.id: "AHEAD"}
    assert [found.claim for found in measured(finished, folders[1:])] == [beats.id]
    for folder in folders:
        assert main(["measured", "--runs", str(folder), "--file", str(file)]) == 0
    assert "1 HOLDS, 1 AHEAD" in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    assert list(faults(text, "m.md", {c.id: c for c in read_claims()})) == []
    (first, second) = from_markdown(text, "m.md")
    assert {first.claim, second.claim} == set(ids)
    assert all(found.machine and found.commit and found.date for found in (first, second))


def test_a_folder_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["measured", "--runs", str(tmp_path / "no")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_every_claim_that_gates_on_the_data_at_hand_has_been_measured():
    """Who cannot be measured yet says gates = false, with the reason.

    An outdated row is of another claim of the same name.
    """
    rows = from_markdown(FILE.read_text(encoding="utf-8"), str(FILE))
    known = {row.claim for row in rows if row.word != OUTDATED}
    asked = [c for c in read_claims() if c.gates and not c.skip and c.tier != "online"]
    assert len(asked) > 100
    assert [c.id for c in asked if c.id not in known] == []
