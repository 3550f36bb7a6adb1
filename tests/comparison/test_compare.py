"""Networks side by side: accuracy and drop by hand, tables that print and draw themselves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import quantbench as qb
from quantbench.cli.main import main
from quantbench.comparison.compare import compare
from quantbench.comparison.table import Comparison, Row
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.quantization.presets import scheme
from tests.helpers.onnx_models import Mixed, images, seeded

W8A8 = scheme("w8a8")


@pytest.fixture(scope="module")
def net():
    return qb.Network.of(seeded(Mixed), images(2), name="mixed")


@pytest.fixture(scope="module")
def quantized(net):
    return qb.quantize(qb.method("nearest"), net, images(16), W8A8)


def loader(net, n=24):
    x = images(n, seed=7)
    with torch.no_grad():
        labels = net.model(x).argmax(1)
    labels[:4] = (labels[:4] + 1) % 5  # full precision is wrong on four
    return DataLoader(TensorDataset(x, labels), batch_size=10)


def test_scores_are_those_of_each_network(net, quantized):
    data = loader(net)
    table = compare(net, quantized, data=data, seconds=0)
    x, y = (torch.cat(part) for part in zip(*data, strict=True))
    run = qb.compile(qb.lower(quantized), "simulation")
    assert table.accuracy(0).value == pytest.approx(100 * 20 / 24)
    right = run(x.numpy()).argmax(1) == y.numpy()
    np.testing.assert_array_equal(table.rows[1].scores, right)
    assert table.drop(1).value == pytest.approx(100 * (20 / 24 - right.mean()))
    assert table.rows[1].bits == "w8a8"


def test_integers_are_timed_beside_floats(net, quantized):
    table = compare(net, quantized, data=loader(net), seconds=0.05)
    if qb.compile.__module__ and table.rows[0].ms is None:
        pytest.skip("no native kernels here")
    assert all(row.ms > 0 for row in table.rows)
    assert "x)" in str(table)


def test_files_and_programs_are_candidates_too(net, quantized, tmp_path):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    program = qb.lower(quantized)
    save_onnx(program, tmp_path / "mixed.onnx")
    table = compare(net, quantized, program, tmp_path / "mixed.onnx", data=loader(net), seconds=0)
    assert [r.name for r in table.rows] == ["mixed", "mixed w8a8", "program", "mixed.onnx"]
    for row in (2, 3):
        assert table.against_ours(row).value == 0
        np.testing.assert_array_equal(table.rows[row].scores, table.rows[1].scores)
    assert "against" in str(table)


def test_a_limit_and_progress(net, quantized):
    told = []
    table = compare(
        *(net, quantized),
        data=loader(net),
        limit=15,
        seconds=0,
        progress=lambda *now: told.append(now[:2]),
    )
    assert len(table.rows[0].scores) == 15
    assert told == [(10, 15), (15, 15)]


def test_weights_alone_are_simulated_and_said_so(net):
    q = qb.quantize(qb.method("nearest"), net, images(8), scheme("w4"))
    table = compare(net, q, data=loader(net), seconds=0)
    assert table.rows[1].note == "simulated in floats"


@pytest.mark.parametrize("data", [[], [images(4)], [(images(4), torch.zeros(3))], [4]])
def test_data_that_cannot_be_scored_are_refused(net, quantized, data):
    with pytest.raises(BadInput, match=r"images, labels"):
        compare(net, quantized, data=data, seconds=0)


def table():
    rows = (
        Row("base", "float32", np.array([1, 1, 1, 0]), 4_000_000, 2.0),
        Row("ours", "w8a8", np.array([1, 1, 0, 0]), 1_000_000, 0.5),
        Row("<other>", "w8a8", np.array([1, 0, 0, 0]), 1_000_000, None, "exact mode"),
    )
    return Comparison("base & co", "top-1", rows, 1, ("a <note>",))


def test_a_table_prints_itself():
    lines = str(table()).splitlines()
    assert lines[0] == "base & co"
    assert any(line.split()[:2] == ["network", "bits"] for line in lines)
    ours = next(line.split() for line in lines if line.startswith("ours"))
    other = next(line.split() for line in lines if line.startswith("<other>"))
    assert ours == ["ours", "w8a8", "50.00", "+25.00", "1.00", "0.5"]
    assert other == ["<other>", "w8a8", "25.00", "+50.00", "-25.00", "1.00", "exact", "mode"]
    assert "(4.00x)" in str(table())
    assert lines[-1] == "- a <note>"


def test_a_table_that_fits_has_a_line_for_each_network():
    narrow = replace(table(), rows=table().rows[:2], notes=())
    assert [line.split()[0] for line in str(narrow).splitlines()[3:]] == ["base", "ours"]
    assert "50.00 [" in str(narrow)


def test_no_line_of_a_table_passes_the_terminal():
    long = Row(
        "a_network_of_a_long_name " * 4, "w8a8", np.array([1, 0, 0, 1]), 1, 10.0, "why " * 40
    )
    wide = replace(table(), title="on " * 60, rows=(*table().rows, long), notes=("so " * 60,))
    assert max(map(len, str(wide).splitlines())) <= 100
    assert str(wide).count("why") == 40
    assert str(wide).count("so") == 60


def test_a_table_draws_itself_with_everything_escaped():
    drawn = table()._repr_html_()
    assert drawn.count("<tr>") == 4
    assert "&lt;other&gt;" in drawn
    assert "<caption>base &amp; co</caption>" in drawn
    assert "<li>a &lt;note&gt;</li>" in drawn


def test_a_table_is_kept_with_every_score(tmp_path):
    table().save(tmp_path / "t.json")
    kept = json.loads((tmp_path / "t.json").read_text())
    assert [r["scores"] for r in kept["rows"]] == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(("name", "bits"), [("w8a8", (8, 8)), ("W4A8", (4, 8)), ("w2", (2, None))])
def test_schemes_have_names(name, bits):
    made = scheme(name)
    assert (made.weights.bits, made.acts and made.acts.bits) == bits
    assert made.placement == ("integer" if made.acts else "inputs")


@pytest.mark.parametrize("name", ["w9a8", "a8", "w8a", "int8", ""])
def test_other_names_are_refused(name):
    with pytest.raises(BadInput, match="names are such as w8a8"):
        scheme(name)


class Memory:
    """A task in memory: labels are what the full-precision network says."""

    model, eval_data, metric = "tiny/mixed", "tiny/eval", "top1"

    def __init__(self, net):
        self.net, self.x = net, images(64, seed=7)
        self.labels = net.model(self.x).argmax(1)

    def network(self):
        return self.net

    def calibration(self, _, n, seed):  # noqa: ARG002
        return (images(16)[:n],)

    def scores(self, model):
        return (model(self.x).argmax(1) == self.labels).numpy()


def test_the_command_puts_a_file_beside_our_own(net, quantized, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path = tmp_path / "tool.onnx"
    save_onnx(qb.lower(quantized), path)
    monkeypatch.setattr("quantbench.tasks.registry.task", lambda *_: Memory(net))
    asked = ["--model", "tiny/mixed", "--eval", "tiny/eval", "--calib", "tiny/calib"]
    words = ["onnx", str(path), *asked, "--examples", "16", "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "tool.onnx: written by quantbench" in out
    assert out.count("\ntool.onnx,") == 3  # long names are folded behind it
    assert "nearest," in out
    assert "against ONNX Runtime's exact mode: 0.0" in out
    kept = json.loads((tmp_path / "runs" / "onnx" / "tool.json").read_text())
    rows = {r["name"]: r for r in kept["rows"]}
    assert [r["name"] for r in kept["rows"]].count("tool.onnx, ONNX Runtime") == 2
    assert rows["tool.onnx, integers"]["scores"] == rows["nearest, integers"]["scores"]
    assert len(rows["tool.onnx, integers"]["scores"]) == 64


def test_the_command_says_what_is_missing(quantized, tmp_path, capsys):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    save_onnx(qb.lower(quantized), tmp_path / "tool.onnx")
    assert main(["onnx", str(tmp_path / "tool.onnx"), "--model", "shapes/resnet8"]) == 2
    assert "--model needs --eval and --calib" in capsys.readouterr().err


def test_writing_needs_onnx(monkeypatch, tmp_path):
    monkeypatch.setattr("quantbench.integer.backends.base.find_spec", lambda _: None)
    with pytest.raises(Unsupported, match="onnx not installed"):
        save_onnx(None, tmp_path / "x.onnx")
