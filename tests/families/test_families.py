"""Networks of other libraries: right, or refused by name; never silently wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch.nn import Conv2d, ReLU

from quantbench.integer.lowering.lower import lower
from tests.families.steps import farthest
from tests.families.survey import Row, Verdict, look
from tests.families.table import page, require_right
from tests.families.zoo import MEMBERS
from tests.network.test_any_network import INTEGER, cnn, images, made
from tests.network.whole_way import in_onnx_runtime

FAST = (  # of other kinds each: residual, attention, gates, unfolded norms, plain
    "timm/test_resnet",
    "timm/test_vit",
    "timm/test_byobnet",
    "timm/test_convnext",
    "torchvision/shufflenet_v2_x0_5",
)


@pytest.mark.parametrize("label", FAST)
def test_a_few_families(label: str) -> None:
    pytest.importorskip(label.partition("/")[0])
    (member,) = (m for m in MEMBERS if m.label == label)
    row = look(member)
    require_right([row])
    assert row.verdict("fake") is row.verdict("integer") is Verdict.RIGHT


@pytest.mark.families
def test_all_families(capsys: pytest.CaptureFixture[str]) -> None:
    """An hour on one quiet core; prints the table."""
    rows = [look(member) for member in MEMBERS]
    with capsys.disabled():
        print(page(rows))
    require_right(rows)


def test_there_are_enough_families() -> None:
    assert len({m.family for m in MEMBERS if m.source == "timm"}) >= 60
    assert len({m.label for m in MEMBERS}) == len(MEMBERS)


def test_a_verdict_tells_mistakes_from_roundings() -> None:
    assert Row("a", fake=0.05).verdict("fake") is Verdict.RIGHT
    assert Row("a", fake=0.4, finer=0.02).verdict("fake") is Verdict.RIGHT
    assert Row("a", fake=0.4, finer=0.35).verdict("fake") is Verdict.WRONG
    assert Row("a", fake="refused: shared").verdict("fake") is Verdict.REFUSED
    assert Row("a", fake="KeyError: 1", error="...").verdict("fake") is Verdict.WRONG
    assert Row("a", integer=0.05, onnx=0.3).verdict("onnx") is Verdict.WRONG
    assert Row("a", integer=0.05, onnx=0.3, onnx_alone=1.1).verdict("onnx") is Verdict.WRONG
    assert Row("a", integer=0.05, onnx=0.3, onnx_alone=0.4).verdict("onnx") is Verdict.RIGHT


@pytest.mark.parametrize("layer", ["2", "6"])  # one that gives codes, and the last
def test_an_operator_that_is_exported_wrong_is_found_whatever_is_behind_it(layer: str) -> None:
    pytest.importorskip("onnxruntime")
    from quantbench.integer.backends.onnx.export import export

    x = images(4)
    program = lower(made(cnn(Conv2d(3, 8, 3), ReLU(), Conv2d(8, 8, 3), ReLU()), INTEGER))
    ops = [replace(op, weight=-op.weight) if op.name == layer else op for op in program.ops]
    for exported, right in ((program, True), (replace(program, ops=tuple(ops)), False)):
        found = in_onnx_runtime(export(exported, show=True).SerializeToString(), x)
        part, name = farthest(program, found)
        assert (part <= 1) is right
        assert right or name == layer


def test_the_page_says_what_was_not_run_and_by_which_rules() -> None:
    text = page([Row(MEMBERS[1].label, fake=0.01, integer=0.02, onnx=0.0)])
    missing = text.split("Not run: ")[1].split(".\n")[0].split(", ")
    assert missing == [m.label for m in MEMBERS if m is not MEMBERS[1]]


def test_the_page_tells_the_distance_that_islands_are_held_to() -> None:
    pytest.importorskip("onnxruntime")
    from quantbench.integer.backends.onnx.islands import NEAR
    from tests.families.table import NEAR_ISLAND

    assert float(NEAR_ISLAND) == NEAR
