"""What a bench test talks to: every end that a claim's runs may come to, and the table of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from quantbench.claims.claim import Rival
from quantbench.errors import BadInput, DataMissing, Unsupported
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import AGREES, MISSES, OPEN, Outcome, Verdict
from quantbench.report import table
from quantbench.report.bench import Bench, Row
from quantbench.report.page.build import page
from quantbench.report.page.found import Found
from quantbench.report.page.papers import paper_tables
from quantbench.runs.lab import Lab
from tests.evidence.test_judge import BEATS, CLAIM, FP, LIMIT, run


def bench(result):
    """A bench whose lab gives a result, or raises it."""

    def get(_cell):
        if isinstance(result, Exception):
            raise result
        return result

    lab = SimpleNamespace(cells=lambda claim: ({0: claim.id}, {}), result=get)
    return Bench(lab, SimpleNamespace(claim=lambda _label: None, line=lambda _row: None))


def test_data_that_is_not_here_is_skipped_with_its_command():
    verdict = bench(DataMissing("imagenet/val", "quantbench data fetch imagenet/val")).judge(CLAIM)
    assert str(verdict) == "SKIP(imagenet/val is not here)"
    assert verdict.command == "quantbench data fetch imagenet/val"


def test_what_our_own_code_does_not_support_is_refused_and_fails():
    b = bench(Unsupported("no integer form of softmax"))
    verdict = b.judge(CLAIM)
    assert str(verdict) == "REFUSED(no integer form of softmax)"
    assert verdict.fails
    assert not b.judge(replace(CLAIM, gates=False)).fails
    assert b.judge(replace(CLAIM, skip="a reason")).outcome == "SKIP"
    assert [row.verdict.outcome for row in b.rows] == ["REFUSED", "REFUSED", "SKIP"]


def test_another_error_is_no_verdict():
    with pytest.raises(BadInput):
        bench(BadInput("no method")).judge(CLAIM)


def row(claim, verdict, *runs):
    return Row(claim, verdict, {}, dict(enumerate(runs)), 1.0)


def judged(claim, *runs):
    return row(claim, judge(claim, dict(enumerate(runs))), *runs)


def test_only_a_published_number_is_called_published():
    project = replace(FP, source=replace(FP.source, reported="project"))
    asks = [c.asks for c in (CLAIM, FP, project, LIMIT, BEATS)]
    assert asks == ["published 90 (2.00)", "published 92", "here 92", "drop <= 1", "below nearest"]
    assert replace(BEATS, kind="order", rival=Rival("gramround", (), BEATS.scheme)).asks == (
        "against gramround"
    )
    assert "published" not in " ".join(table.HEADER)


def test_a_row_shows_our_number_and_the_difference_that_decides():
    published, limit = judged(CLAIM, run(92.0, 89.4)), judged(LIMIT, run(92.0, 91.9))
    ours, difference = table.cells(published)[3:5]
    assert ours.startswith("89.40 (+2.60) [+")
    assert difference.startswith("+0.60 [-")
    assert table.difference(limit).startswith("-0.90 [-")
    runs = {0: run(92, 91)}, {0: run(92, 84)}
    assert table.difference(row(BEATS, judge(BEATS, *runs), runs[0][0])).startswith(
        "advantage +7.00 [+"
    )


def test_the_forest_plot_shows_what_decides_beside_what_is_allowed():
    rows = [judged(CLAIM, run(92.0, 89.4)), judged(LIMIT, run(92.0, 91.9)), judged(FP, run(92, 92))]
    lines = [
        line
        for table in paper_tables([Found(row) for row in rows])
        for chart in table.forest
        for line in chart.spec["data"]["values"]
    ]
    published, base, limit = lines
    found = rows[0].verdict.difference
    assert (published["least"], published["most"]) == (-0.5, 0.5)
    assert published["value"] == pytest.approx(0.6)
    assert (published["low"], published["high"]) == pytest.approx((found.low, found.high), abs=1e-3)
    assert limit["most"] == 0.0
    assert limit["least"] == limit["low"]  # a limit allows all that is less
    assert base["low"] == base["high"] == base["value"] == 0.0


@pytest.fixture
def every():
    """One row for each outcome, all gating."""
    right = Result.of(np.ones(4, bool), np.ones(4, bool), "d")
    return [row(CLAIM, Verdict(word, gates=True), right) for word in Outcome]


def test_the_counts_of_every_verdict_stand_at_the_top(every, tmp_path):
    counts = ", ".join(f"1 {word}" for word in Outcome)
    first = f"{counts}  (gating: {len(MISSES)} missed, 1 undecided)"
    assert table.summary(every) == first
    assert " ".join(" ".join(table.terminal(every)).split()).startswith(" ".join(first.split()))
    assert table.markdown(every).splitlines()[0] == first
    text = page([Found(row) for row in every], Lab(tmp_path))
    assert text.index(first) < text.index("<table")


def test_the_terminals_table_fits_and_has_the_misses_last(every):
    lines = table.terminal([*every, *every])
    assert max(map(len, lines)) <= table.WIDTH
    words = [line.split()[0].partition("(")[0] for line in lines if CLAIM.model in line]
    kinds = ["misses" if w in MISSES else "open" if w in OPEN else "agrees" for w in words]
    assert kinds == sorted(kinds, key=["agrees", "open", "misses"].index)
    assert len(kinds) == 2 * (len(Outcome) - 1)  # nothing that was skipped
    assert table.terminal([]) == [table.summary([])] * 2


def test_long_names_and_reasons_are_folded():
    verdict = Verdict(Outcome.XFAIL, gates=False, reason="a known miss " * 20)
    claim = replace(CLAIM, id="paper/" + "network/" * 9 + "w4/" + "a-long-tail" * 5)
    lines = table.terminal([row(claim, verdict, run(92, 91))] * 2)
    assert max(map(len, lines)) <= table.WIDTH
    assert "..." in table.short(verdict)
    assert len(table.short(verdict)) < 120


def test_the_summary_folds_away_what_agrees(every):
    text = table.markdown(every)
    loud, _, quiet = text.partition("<details>")
    assert "| BEHIND |" in loud
    assert "| HOLDS |" not in loud
    assert "| HOLDS |" in quiet
    assert text.count("<details>") == text.count("</details>") == 2
    many = table.markdown([every[0]] * (table.ROWS + 5))
    assert "and 5 more" in many
    odd = replace(every[0], claim=replace(every[0].claim, id="<b>|a"))
    assert "| &lt;b&gt;\\|a |" in table.markdown([odd])


def test_every_outcome_has_a_colour(every, tmp_path):
    assert {*AGREES, *MISSES, *OPEN} == set(Outcome)
    text = page([Found(row) for row in every], Lab(tmp_path))
    for word, kind in (("HOLDS", "agrees"), ("BEHIND", "misses"), ("XFAIL", "known")):
        assert f'<span class="badge {kind}">{word}</span>' in text
        assert f".{kind}.badge" in text
