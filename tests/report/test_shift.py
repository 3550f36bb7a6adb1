"""The report's table and plot of the mean activation shift."""

import math

import pytest

from quantbench.calibration.shift import growth
from quantbench.report import shift_tables
from quantbench.report.page.build import page
from quantbench.report.page.found import Found
from quantbench.runs.lab import Lab
from tests.report.rows import row


@pytest.mark.parametrize("factor", [0.25, 1.0, 8.0])
def test_growth_of_a_geometric_series_is_its_last_over_its_first(factor):
    series = [0.3 * factor ** (i / 9) for i in range(10)]
    assert growth(series) == pytest.approx(factor)
    # layers without any shift say nothing
    assert growth([0.0, *series[1:]]) == pytest.approx(factor)


def test_growth_needs_two_layers_with_a_shift():
    assert growth([]) == growth([0.0, 0.0]) == growth([0.0, 0.5]) == 1.0
    assert math.isfinite(growth([1e-300, 1.0]))


def test_a_line_says_what_the_correction_did():
    text = shift_tables.section([row(note="because")])
    for part in (
        "nearest+ibc",
        "50.00 (+25.00)",
        "0.4 → 0.04",
        "40.0% → 4.0%",
        "because",
        "torchvision/mobilenet_v2",
    ):
        assert part in text
    assert "62.50 (+12.50, 2 seeds)" in shift_tables.section([row(seeds=2)])


def test_steps_without_a_diagnosis_stand_beside_those_with_one():
    steps = [row("nearest", curves={}, extra={"nearest/found": 21.0, "objective/conv": 3.0}), row()]
    text = shift_tables.section(steps)
    assert text.index("<td>nearest</td>") < text.index("<td>nearest+ibc</td>")
    assert "nearest/found 21" in text
    assert "objective" not in text  # other numbers of the same run belong elsewhere
    assert shift_tables.section(steps[:1]) == ""


def test_claims_that_share_their_runs_share_a_line():
    text = shift_tables.section([row(note="one"), row(note="two"), row(note="two")])
    assert text.count("<td>nearest+ibc</td>") == 1
    assert "one two<" in text


def test_the_rival_has_a_line_and_the_line_with_most_seeds_stands():
    text = shift_tables.section(
        [row(seeds=2, rival="nearest+bft", note="why"), row(), row("nearest+bft", note="own")]
    )
    assert text.count("<td>nearest+ibc</td>") == text.count("<td>nearest+bft</td>") == 1
    assert text.count("2 seeds") == 2
    assert text.index("why") < text.index("<td>nearest+bft</td>") < text.index("own")
    assert "8 of imagenet/train" in text


def test_the_layer_with_the_largest_shift_is_named():
    assert "0.4 at fc → 0.04 at fc" in shift_tables.section([row()])


def test_names_and_notes_are_escaped():
    assert "<script>" not in shift_tables.section([row(note="<script>")])


def test_the_page_holds_the_table_and_one_chart_of_the_shift(tmp_path):
    text = page([Found(row()), Found(row())], Lab(tmp_path))
    assert "Mean activation shift, step by step" in text
    assert text.count("Mean activation shift over depth</h4>") == 1
