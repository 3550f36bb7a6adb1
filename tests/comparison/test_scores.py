"""Scores of other tools beside ours: read, checked line by line, shown, and never judged by."""

import json

import numpy as np
import pytest

from quantbench.cli.main import main
from quantbench.comparison.scores import bits_of, read_scores
from quantbench.comparison.table import Comparison
from quantbench.data.images import images
from quantbench.errors import BadInput
from quantbench.evidence.result import Result
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.page import build
from quantbench.report.write import _others
from quantbench.runs.lab import Lab
from quantbench.runs.recipe import Recipe
from quantbench.tasks.measure import FullPrecision
from quantbench.tasks.registry import task

PLACE = ["--model", "shapes/resnet8", "--eval", "shapes/test"]


def written(folder, text):
    path = folder / "mytool.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_columns_of_scores(tmp_path):
    found = read_scores(written(tmp_path, "label,mytool w4a8,mytool float32\n3,1,1\n\n0,0.5,1\n"))
    assert found.n == 2
    assert found.labels.tolist() == [3, 0]
    assert found.columns["mytool w4a8"].tolist() == [1, 0.5]
    assert found.bits() == {"w4a8", "float32"}
    assert bits_of("mytool") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "has 1 lines"),
        ("a,a\n1,1\n", "a head of its own"),
        ("a,\n1,1\n", "a head of its own"),
        ("a,b\n1,1\n1\n", "line 3: 1 values for 2 columns"),
        ("a,b\n1,x\n", "line 2, column 'b': 'x' is no number"),
        ("a\nnan\n", "'nan' is no number"),
        ("a\n1\n93.5\n", "example 2 of 2, column 'a': 93.5 is no score in 0..1"),
        ("label\n1\n", "no column of scores"),
    ],
)
def test_what_is_no_table_of_scores_is_refused_with_its_place(tmp_path, text, said):
    with pytest.raises(BadInput, match=said):
        read_scores(written(tmp_path, text))
    with pytest.raises(BadInput, match="cannot be read"):
        read_scores(tmp_path / "none.csv")


@pytest.fixture
def lab(tmp_path):
    """Full precision and one run at four bits, on the embedded set's own examples."""
    made, where = Lab(tmp_path / "runs"), task("shapes/resnet8", "shapes/test")
    n = len(images("shapes/test").y)
    right = np.arange(n) < n - 100
    recipe, scheme = Recipe("nearest"), Scheme(Grid(4))
    whole = made.cell(where, FullPrecision(), None, "", 0, 0)
    made.ledger.put(whole, Result.of(right, right, "full"))
    ours = Result.of(right, right & (np.arange(n) >= 200), "w4", size_bytes=9)
    made.ledger.put(made.cell(where, recipe, scheme, "shapes/calib", 64, 0), ours)
    other = made.cell(where, recipe, Scheme(Grid(3)), "shapes/calib", 64, 0)
    made.ledger.put(other, ours)
    return made


def csv_of(folder, labels, lost=300):
    n = len(labels)
    lines = [f"{y},{int(lost <= i < n - 100)}" for i, y in enumerate(labels)]
    return str(written(folder, "\n".join(["label,mytool w4", *lines])))


def test_their_scores_stand_beside_ours_at_the_same_bits(lab, tmp_path, capsys):
    file = csv_of(tmp_path, images("shapes/test").y)
    before = sorted(p.read_bytes() for p in lab.ledger.folder.glob("*.json"))
    assert main(["import", file, *PLACE, "--runs", str(lab.runs)]) == 0
    said = capsys.readouterr().out
    kept = Comparison.load(lab.runs / "others" / "mytool.json")
    assert [row.name.split(",")[0] for row in kept.rows] == ["shapes/resnet8", "nearest", "mytool"]
    assert [row.bits for row in kept.rows] == ["float32", "w4", "w4"]
    assert kept.rows[2].note == "third party"
    n = len(kept.rows[0].scores)
    assert kept.drop(2).value == pytest.approx(100 * 300 / n)
    assert kept.against_ours(2).value == pytest.approx(-100 * 100 / n)
    assert "no verdict reads it" in said
    assert sorted(p.read_bytes() for p in lab.ledger.folder.glob("*.json")) == before
    page = build.page([], lab, others=_others(lab.runs))
    assert 'id="others"' in page
    assert "third party</td>" in page


def test_another_order_of_the_examples_is_noticed(lab, tmp_path, capsys):
    file = csv_of(tmp_path, images("shapes/test").y[::-1])
    assert main(["import", file, *PLACE, "--runs", str(lab.runs)]) == 2
    assert "bring the lines into the set's order" in capsys.readouterr().err
    assert not (lab.runs / "others").exists()


def test_another_number_of_examples_is_refused(lab, tmp_path, capsys):
    file = csv_of(tmp_path, images("shapes/test").y[:-1])
    assert main(["import", file, *PLACE, "--runs", str(lab.runs)]) == 2
    assert "10,239 examples" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"rows": []}, {"rows": [{"name": "a"}]}, {"ours": 7}, None])
def test_a_damaged_comparison_costs_the_report_nothing(tmp_path, change):
    path = tmp_path / "others" / "a.json"
    path.parent.mkdir()
    row = {"bits": "w4", "size": 0, "ms": None, "note": ""}
    rows = [{"name": n, "scores": [1.0, 0.0], **row} for n in ("full", "ours", "theirs")]
    good = {"title": "t", "metric": "top1", "rows": rows, "ours": 1, "notes": []}
    path.write_text(json.dumps(good))
    assert len(_others(tmp_path)) == 1
    path.write_text("[" if change is None else json.dumps({**good, **change}))
    assert _others(tmp_path) == []
