"""The report's table and plot of the mean activation shift."""

import math
from dataclasses import replace

import pytest

from quantbench.calibration.shift import growth
from quantbench.claims import catalog
from quantbench.claims.claim import Rival
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import Outcome, Verdict
from quantbench.report import page as html
from quantbench.report import plots, shift_plots, shift_tables
from quantbench.report.rows import Row

CURVES = {
    f"shift/{stage}/{name}": (scale, 2 * scale, 4 * scale)
    for stage, scale in (("before", 0.1), ("after", 0.01))
    for name in ("mssr", "rqnsr", "share", "000 conv", "001 conv2", "002 fc")
}
EXTRA = {
    f"shift/before/{k}": 0.4 for k in ("output_mssr", "output_rqnsr", "output_share", "growth")
} | {f"shift/after/{k}": 0.04 for k in ("output_mssr", "output_rqnsr", "output_share", "growth")}


def row(method="nearest+ibc", note="", curves=CURVES, extra=EXTRA, seeds=1, fields=(), rival=None):
    claim = catalog.find(catalog.read_claims("bias"), "bias/imagenet/mobilenet_v2/w8a8/ibc")
    claim = replace(
        claim,
        method=method,
        fields=fields,
        note=note,
        rival=rival and Rival(rival, (), claim.scheme),
    )
    ok = [True, True, False, True]
    runs = {
        s: Result.of(ok, [s > 0, True, False, True], "d", curves=curves, extra=extra)
        for s in range(seeds)
    }
    return Row(
        claim, Verdict(Outcome.REPRODUCED, gates=False), {}, runs, 1.0, runs if rival else {}
    )


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


def test_accuracy_is_drawn_over_the_number_of_images():
    drawn = dict(plots.all_of([row(fields=(("images", n), ("lr", 1.0))) for n in (1, 2, 4, 8, 8)]))
    assert [
        caption for caption in drawn if caption.endswith("nearest+ibc: accuracy against images")
    ]
    few = dict(plots.all_of([row(fields=(("images", n), ("lr", float(n)))) for n in (1, 2, 4, 8)]))
    assert not [caption for caption in few if "images" in caption]


def test_names_and_notes_are_escaped():
    assert "<script>" not in shift_tables.section([row(note="<script>")])


def test_the_page_holds_the_table_and_the_plot():
    page = html.page([row(), row()])
    assert "Mean activation shift, step by step" in page
    assert page.count("<svg") == len(list(plots.all_of([row()])))  # the same pipeline is drawn once
    assert "mean activation shift of every layer and channel" in page


def test_equal_curves_give_equal_drawings():
    assert shift_plots.draw(CURVES) == shift_plots.draw(CURVES)
    assert shift_plots.draw(CURVES) != shift_plots.draw({k: v[::-1] for k, v in CURVES.items()})


def test_some_plots_only(monkeypatch):
    monkeypatch.setattr(shift_plots, "PLOTS", 2)
    assert len(list(shift_plots.all_of([row(f"nearest+ibc+{i}") for i in range(5)]))) == 2
