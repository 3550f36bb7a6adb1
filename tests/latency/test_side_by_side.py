"""Side-by-side tables: what is in them, how they are kept and shown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.base import backend
from quantbench.integer.backends.native import Native
from quantbench.integer.validate import validate
from quantbench.latency import linear, runtimes, side_by_side
from quantbench.latency.accuracy import Accuracy
from quantbench.latency.interleaved import FLOAT32, Latency
from quantbench.latency.samples import sample, sample_program
from quantbench.latency.side_by_side import measure
from quantbench.latency.table import LayerTime, Table, lines
from quantbench.latency.targets import LINEAR, SCHEMES, TARGETS, Target
from quantbench.report import latency_page

needs_native = pytest.mark.skipif(
    Native("").available() is not None, reason=f"{Native('').available()}"
)


def row(what: str, p50: float, threads: int = 1) -> Latency:
    return Latency(what, 1, threads, p50, 2 * p50, 3 * p50, p50 / 2, 100, 1.0)


TABLE = Table(
    "cifar10/net",
    1,
    "a machine",
    (row("native w8a8", 1.0), row("openvino w8a8", 3.0), row("litert w8a8", 2.0)),
    {"native w8a8": (0.0, 0.0), "litert w8a8": (9.0, 0.25)},
    {"w8a8": 1.8},
    {"w8a8": 1234},
    {
        "native w8a8": (
            LayerTime("conv", "conv", 0.5, 10**8, 10**6),
            LayerTime("pool", "max_pool", 0.5, 0, 10**6),
        )
    },
    3e11,
    1e10,
)


def test_ratio_is_against_the_best_other_runtime_on_as_many_threads() -> None:
    assert TABLE.ratio(TABLE.rows[0]) == 2.0
    more = replace(
        TABLE, rows=(*TABLE.rows, row("native w8a8", 1.0, 2), row("openvino w8a8", 1.5, 2))
    )
    assert more.ratio(more.rows[3]) == 1.5
    assert np.isnan(replace(TABLE, rows=TABLE.rows[:1]).ratio(TABLE.rows[0]))


def test_ratio_leaves_out_slower_modes_and_compares_bits_with_bits() -> None:
    others = ("onnxruntime w8a8 exact", 0.1), ("openvino w7a8", 0.1), ("openvino w4", 0.5)
    table = replace(TABLE, rows=(*TABLE.rows, *(row(what, p50) for what, p50 in others)))
    assert table.ratio(table.rows[0]) == 2.0
    assert table.ratio(row("native w4a8", 1.0)) == 0.5
    assert table.ratio(row("native w2a8", 1.0)) == 0.5  # nobody else has 2 bits
    assert TABLE.ratio(row("native w4a8", 1.0)) == 2.0


def test_goals_are_those_of_the_instruction_set() -> None:
    first = TARGETS[0]
    assert str(first) == "cifar10/resnet20-batch1"
    assert first.goals_of("avx2") == {"w8a8": 1.5, "w4a8": 1.8, "w4a4": 2.2}
    assert first.goals_of("avx512") == {"w8a8": 2.4}
    assert first.goals_of("arm64_dot") == {}
    assert len({str(t) for t in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert target.schemes[0] == "w8a8"  # what the others run
        assert all(set(goals) <= set(target.schemes) for goals in target.goals.values())
        assert set(target.schemes) <= set(SCHEMES)
    assert LINEAR["avx2"] == {"w8a8": 1.3, "w4a8": 1.6}


def test_text_shows_accuracies_where_there_are_some() -> None:
    tested = {"native w8a8": Accuracy(0.917, 1.0, 2000), "litert w8a8": Accuracy(0.9, 0.969, 2000)}
    text = lines(replace(TABLE, accuracy=tested, isa="avx2", weights="trained"))
    assert "trained weights" in text[0]
    assert text[1].split()[-2:] == ["top-1", "same"]
    assert text[2].split()[-2:] == ["91.70", "100.0%"]
    assert text[3].split()[-2:] == ["90.00", "96.9%"]
    assert text[4].split()[0] == "openvino"
    assert "2000 images" in text[5]
    assert text[-1].endswith("goals are those of avx2")


def test_text_shows_ratio_goal_and_what_differs() -> None:
    text = lines(TABLE)
    assert [t.split()[0] for t in text[2:5]] == ["native", "litert", "openvino"]  # fastest first
    assert "2.00  1.80" in text[2]
    assert text[3].endswith("9    25.0%")
    assert "1,234" in text[-1]
    assert "600 GOP/s" in text[-1]


def test_tables_are_kept_and_a_damaged_one_is_named(tmp_path) -> None:
    tested = replace(TABLE, accuracy={"native w8a8": Accuracy(0.9, 1.0, 10)}, isa="avx2")
    path = tested.save(tmp_path / "latency")
    assert Table.load(path) == tested
    values = json.loads(path.read_text())
    for new in ("accuracy", "isa", "weights"):
        del values[new]
    path.write_text(json.dumps(values))  # as before these were measured
    assert Table.load(path) == TABLE
    path.write_text(json.dumps({"network": "x"}))
    with pytest.raises(BadInput, match="not a latency table"):
        Table.load(path)
    path.write_text("{")
    with pytest.raises(BadInput, match=r"net-batch1-threads1\.json"):
        latency_page.write(tmp_path)


def test_page_has_a_roofline_and_every_layer(tmp_path) -> None:
    assert latency_page.write(tmp_path) is None
    TABLE.save(tmp_path / "latency")
    path = latency_page.write(tmp_path)
    assert path is not None
    text = path.read_text(encoding="utf-8")
    assert text.count('<figure class="chart"') == 1
    assert _cells("conv", "conv", "500.0", "50.0%", "400", "67%") in text
    assert _cells("pool", "max_pool", "500.0", "50.0%", "", "") in text
    assert "600 GOP/s in registers" in text


def _cells(*texts: str) -> str:
    return "".join(f"<td>{text}</td>" for text in texts)


@needs_native
def test_one_measurement_from_end_to_end(monkeypatch) -> None:
    monkeypatch.setattr(runtimes, "PEERS", ("onednn", "nosuch"))
    monkeypatch.setattr(side_by_side, "PROFILES", 2)
    monkeypatch.setattr(runtimes, "backend", lambda n: backend(n if n != "nosuch" else "litert"))
    said: list[str] = []
    isa = Native().compile(sample_program("shapes/resnet8")[1]).isa
    target = Target("shapes/resnet8", 1, ("w8a8", "w4a4"), {isa: {"w8a8": 1.5}}, tested=120)
    table = measure(target, seconds=0.0, threads=(1, 2), say=said.append)
    assert {r.threads for r in table.rows} == {1, 2}
    expected = {FLOAT32, "native w8a8", "native w4a4", "onednn w8a8", "native w7a8", "onednn w7a8"}
    assert {r.what for r in table.rows} >= expected
    assert table.away["native w8a8"] == table.away["native w4a4"] == (0.0, 0.0)
    assert table.away["native w7a8"] == (0.0, 0.0)
    assert (table.goals, table.isa, table.weights) == ({"w8a8": 1.5}, isa, "trained")
    assert set(table.accuracy) == {r.what for r in table.rows}
    assert table.accuracy["native w8a8"].same == 1.0
    assert {a.images for a in table.accuracy.values()} == {120}
    assert table.accuracy[FLOAT32].top1 > 0.8
    assert abs(table.accuracy["native w8a8"].top1 - table.accuracy[FLOAT32].top1) < 0.05
    assert table.sizes["w4a4"] < 0.6 * table.sizes["w8a8"]
    layers = table.layers["native w8a8"]
    _, program, _ = sample_program("shapes/resnet8")
    assert [t.name for t in layers] == ["input", *(op.name for op in program.ops)]
    macs = {t.name: t.macs for t in layers}
    assert macs["conv1"] == 16 * 3 * 9 * 32 * 32


def test_weights_are_random_where_no_trained_ones_are_at_hand() -> None:
    found = sample("torchvision/shufflenet_v2_x0_5")
    assert found.weights == "random"
    assert sample("shapes/resnet8").weights == "trained"


@needs_native
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_linear_layer_that_is_timed_is_exact(bits: int) -> None:
    program = linear.program(256, 48, bits)
    validate(program)
    x = np.random.default_rng(0).normal(0, 1, (3, 256, 1, 1)).astype(np.float32)
    expected = oracle.run(program, x)["logits"].reshape(3, -1)
    np.testing.assert_array_equal(Native().compile(program)(x), expected)


@needs_native
def test_other_runtimes_compute_the_same_linear_layer() -> None:
    said: list[str] = []
    found = {r.what for r in linear.measure(256, 64, seconds=0.0, say=said.append)}
    assert {"native w8a8", "native w4a8", "native w2a8"} <= found
    assert not [s for s in said if "not this layer's" in s]


def test_mlflow_has_every_number_of_a_table() -> None:
    from quantbench.report import latency_tracking

    made = replace(
        TABLE, rows=(*TABLE.rows, row("native w8a8", 0.5, 2), row("openvino w8a8", 1.5, 2))
    )
    entry = latency_tracking.entry("latency/net", made)
    assert entry.metrics["latency_ms/native_w8a8/batch1/threads1/p50"] == 1.0
    assert entry.metrics["latency_ms/native_w8a8/batch1/threads2/p99"] == 1.5
    assert entry.metrics["latency_ms/openvino_w8a8/batch1/threads1/p90"] == 6.0
    assert entry.metrics["ratio/native w8a8/threads1"] == 2.0
    assert entry.metrics["ratio/native w8a8/threads2"] == 3.0
    assert entry.metrics["layer_ms/native w8a8/conv"] == 0.5
    assert (entry.metrics["bytes/w8a8"], entry.metrics["share_off/litert w8a8"]) == (1234, 0.25)
    assert entry.metrics["peak_gops"] == pytest.approx(600)
    assert (entry.params["network"], entry.tags["machine"]) == ("cifar10/net", "a machine")
    assert not any(name.startswith("ratio/openvino") for name in entry.metrics)


def test_the_report_links_the_page_of_latencies(tmp_path) -> None:
    from quantbench.report.page.build import About, page
    from quantbench.runs.lab import Lab

    link = f'href="{latency_page.NAME}"'
    assert link in page([], Lab(tmp_path), About(latency=latency_page.NAME))
    assert link not in page([], Lab(tmp_path))
