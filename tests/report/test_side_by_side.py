"""Tables of methods: who is in them, in which order, and what each cell says."""

from dataclasses import replace

import numpy as np

from quantbench.claims.claim import Rival
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Result
from quantbench.report.bench import Row
from quantbench.report.measured.side_by_side import to_markdown
from tests.evidence.test_judge import BEATS


def run(correct, seconds=2.0, **extra):
    full = np.arange(1000) < 900
    quantized = np.arange(1000) < correct
    return Result.of(full, quantized, "d", seconds={"quantize": seconds}, extra=extra)


def row(method, correct, cell="w4", **extra):
    rival = Rival("nearest", (), BEATS.scheme)
    about = {"paper": "tables", "kind": "order", "model": "imagenet/net", "seeds": (0, 1)}
    claim = replace(BEATS, id=f"tables/imagenet/net/{cell}/here-{method}", method=method, **about)
    claim = replace(claim, rival=rival, fields=(), note="2 points published")
    runs = {s: run(correct, **extra) for s in claim.seeds}
    against = {s: run(500, 0.4, **extra) for s in claim.seeds}
    return Row(claim, judge(claim, runs, against), {}, runs, 0.0, against)


def test_nearest_comes_first_and_the_others_by_accuracy():
    text = to_markdown([row("ibc", 600, peak_megabytes=80.0), row("brecq", 850)], "tables")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines] == ["| method", "| nearest", "| brecq", "| ibc"]
    assert "Full precision: 90.00 on 1000 images" in text
    nearest, brecq, ibc = lines[1:]
    assert nearest.split(" | ")[1] == "50.00 (+40.00)"
    assert brecq.split(" | ")[1].startswith("85.00 (+5.00) [")
    assert ibc.split(" | ")[2].startswith("+10.00 [")
    assert ibc.split(" | ")[3:6] == ["2", "80", "2"]
    assert "not counted" in brecq
    assert "2 points published" in ibc


def test_a_table_for_each_scheme_and_none_for_other_papers():
    other = row("ibc", 600)
    other.claim = replace(other.claim, paper="bias")
    text = to_markdown([row("ibc", 600, "w4"), row("ibc", 600, "w3"), other], "tables")
    assert text.count("\n## ") == 2
    assert "## imagenet/net, w3" in text


def test_a_published_drop_and_its_verdict_stand_beside_the_same_run():
    own = row("ibc", 890)
    about = {"kind": "accuracy", "rival": None, "value": 1.0, "tol": 2.0, "metric": "top1_drop"}
    claim = replace(own.claim, id="tables/imagenet/net/w4/here-published", **about)
    beside = Row(claim, judge(claim, own.runs, {}), {}, own.runs, 0.0, {})
    text = to_markdown([own, row("brecq", 850), beside], "tables")
    lines = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines()}
    assert text.count("| ibc |") == 1
    assert lines["| ibc"][6] == f"drop 1: {beside.verdict.outcome}"
    assert lines["| brecq"][6] == ""
    assert to_markdown([beside], "tables").count("\n## ") == 0
