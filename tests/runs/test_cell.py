"""Cells: what their keys depend on, what they do not, and the results that they hold."""

import math
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantbench.errors import BadInput
from quantbench.evidence.result import Latency, Result
from quantbench.quantization.scheme import Grid, Override, Scheme
from quantbench.runs.cell import Cell, canonical
from quantbench.runs.source_hash import forget, source_hashes
from quantbench.system.machine import torch_version
from quantbench.system.seeds import generator, seed_for


@dataclass(frozen=True)
class Toy:
    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 1
    iterations: int = 100
    lr: Any = 1e-3


@dataclass(frozen=True)
class Both:
    name: ClassVar[str] = "both"
    version: ClassVar[int] = 1
    steps: tuple[Any, ...] = (Toy(), Toy(5))


class Newer(Toy):
    version: ClassVar[int] = 2


CELL = Cell(
    Toy(),
    Scheme(Grid(4)),
    "shapes/resnet8",
    "c0",
    "shapes/calib",
    256,
    "d0",
    "shapes/test",
    "e0",
    0,
)
RESULT = Result.of(np.array([1, 1, 0, 1], bool), np.array([1, 0, 0, 1], bool), "digest")


@pytest.mark.parametrize(
    "change",
    [
        {"method": Toy(iterations=101)},
        {"method": Toy(lr=2e-3)},
        {"method": Newer()},
        {"method": Both()},
        {"scheme": Scheme(Grid(4, per_channel=True))},
        {"scheme": Scheme(Grid(4), overrides=(Override("fc", 8),))},
        {"model": "shapes/mobilenet"},
        {"checkpoint": "c1"},
        {"calib": "shapes/train"},
        {"calib_n": 255},
        {"calib_digest": "d1"},
        {"eval_data": "shapes/train"},
        {"eval_digest": "e1"},
        {"seed": 1},
        {"device": "cuda"},
    ],
)
def test_everything_the_result_depends_on_changes_the_key(change):
    assert set(change) <= {f.name for f in fields(Cell)}
    assert replace(CELL, **change).key() != CELL.key()


def test_the_key_knows_torch_but_not_its_build(monkeypatch):
    keys = []
    for version in ("2.8.0+cpu", "2.8.1", "2.9.0"):
        monkeypatch.setattr("quantbench.system.machine.version", lambda _, v=version: v)
        torch_version.cache_clear()
        keys.append(replace(CELL).key())
    torch_version.cache_clear()
    assert keys[0] == keys[1] != keys[2]


def test_the_id_survives_code_data_and_version_but_tells_settings_apart():
    assert (
        replace(CELL, method=Newer(), checkpoint="c1", eval_digest="e1", device="cuda").id
        == CELL.id
    )
    for change in (
        {"method": Toy(101)},
        {"calib_n": 1},
        {"seed": 1},
        {"scheme": Scheme(Grid(4, per_channel=True))},
    ):
        assert replace(CELL, **change).id != CELL.id
    assert replace(CELL, scheme=None).id.startswith("shapes/resnet8/fp/toy/")
    assert CELL.id.startswith("shapes/resnet8/w4/toy/shapes/test/s0-")


@dataclass(frozen=True)
class Grown:
    """The toy, a version later: a field more, whose default is what it always did."""

    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 3
    iterations: int = 100
    lr: float = 1e-3
    moments: bool = False


@dataclass(frozen=True)
class Steps:
    name: ClassVar[str] = "pipeline"
    version: ClassVar[int] = 1
    steps: tuple[Any, ...] = ()


def test_a_new_field_at_its_default_does_not_rename_a_cell():
    for wrap in (lambda m: m, lambda m: Steps((Toy(7), m))):
        old, new = (replace(CELL, method=wrap(m)) for m in (Toy(), Grown()))
        assert old.id == new.id
        assert replace(CELL, method=wrap(Grown(moments=True))).id != new.id
        assert replace(CELL, method=wrap(Toy(iterations=7))).id != old.id
    assert replace(CELL, scheme=Scheme(Grid(4), placement="inputs")).id == CELL.id  # the default


def test_two_processes_have_the_same_key():
    """The toy's module cannot be imported elsewhere, so a grid stands in for the method."""
    cell = 'Cell(Grid(3), Scheme(Grid(4)), "m", "c", "d", 1, "e", "f", "g", 0)'
    code = (
        "from quantbench.runs.cell import Cell; "
        f"from quantbench.quantization.scheme import Grid, Scheme; print({cell}.key())"
    )
    here = Cell(Grid(3), Scheme(Grid(4)), "m", "c", "d", 1, "e", "f", "g", 0).key()
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == here


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}, np.float32(1)])
def test_a_field_that_json_cannot_hold_is_refused(value):
    with pytest.raises(BadInput, match="cannot be part of a cell's key"):
        replace(CELL, method=Toy(lr=value)).key()


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    )
)
def test_canonical_does_not_depend_on_order(d):
    assert canonical(d) == canonical(dict(reversed(d.items())))


def test_a_method_from_an_interpreter_is_refused():
    with pytest.raises(BadInput, match="nowhere has no source file"):
        source_hashes(["nowhere"])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stranger's package: a method, a helper imported in a function, its helper, an outsider."""
    # one name per test, since Python remembers where modules are
    folder = tmp_path / f"stranger_{tmp_path.name}"
    folder.mkdir()
    files = {
        "__init__": "",
        "method": "import json\nfrom quantbench.quantization.scheme import Grid\n"
        "def f():\n    from . import helper\n"
        "if TYPE_CHECKING:\n    from .outsider import z\n",
        "helper": f"from {folder.name}.deep import y\nx = y  # a comment\n",
        "deep": '"""Docstring."""\ny = 1\n',
        "outsider": "z = 1\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_source_hashes_follow_imports_within_the_own_package_and_quantbench(package):
    found = source_hashes([f"{package.name}.method"])
    assert set(found) == {f"{package.name}.{m}" for m in ("method", "helper", "deep")} | {
        "quantbench.quantization.scheme"
    }


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("deep", '"""Docstring."""\ny = 2\n', True),
        ("deep", '"""Another."""\n\ny = 1  # and a comment\n', False),
        ("helper", "from .outsider import z\nx = z\n", True),
        ("outsider", "z = 2\n", False),
    ],
)
def test_only_code_that_matters_changes_the_hashes(package, file, text, changes):
    before = source_hashes([f"{package.name}.method"])
    (package / f"{file}.py").write_text(text)
    # the code that this process runs is still the old one
    assert source_hashes([f"{package.name}.method"]) == before
    forget()  # as in the next process
    assert (source_hashes([f"{package.name}.method"]) != before) == changes


def test_a_file_that_is_no_python_is_named(package):
    (package / "deep.py").write_text("y = 1\nz = (\n")
    with pytest.raises(BadInput, match=r"deep\.py:2: '.' was never closed"):
        source_hashes([f"{package.name}.method"])


def test_an_error_message_does_not_invalidate_results():
    assert "quantbench.errors" not in CELL.key_fields()["source"]
    assert {
        "quantbench.quantization.scheme",
        "quantbench.tasks.evaluate",
        "quantbench.models.catalog",
    } <= set(CELL.key_fields()["source"])


@given(hnp.arrays(bool, st.integers(1, 70)), st.randoms(use_true_random=False))
def test_correctness_survives_packing(fp, random):
    quantized = np.array([random.random() < 0.7 for _ in fp])
    result = Result.from_json(Result.of(fp, quantized, "d").to_json())
    assert result.packing == "bits"
    np.testing.assert_array_equal(result.fp_scores, fp)
    np.testing.assert_array_equal(result.scores, quantized)
    assert result.drop == pytest.approx(100 * (fp.mean() - quantized.mean()))


def test_scores_and_similarities_survive_packing():
    rng = np.random.default_rng(0)
    f1 = Result.of(rng.random(9), rng.random(9), "d", metric="f1")
    assert f1.packing == "f4"
    # float32 against float64 summation
    assert f1.q_top1 == pytest.approx(100 * f1.scores.mean(), rel=1e-6)
    gold = np.arange(9.0)
    ranks = Result.of(gold, -gold, "d", metric="spearman", gold=gold)
    assert (ranks.fp_top1, ranks.q_top1) == pytest.approx((100, -100))


def test_latency_rows_survive_json():
    row = Latency("onednn", 32, "this machine", (1.0, 2.0, 4.0), (3.0, 3.0, 3.0), 91.5, {"fc": 0.1})
    result = replace(RESULT, latency=(row,), curves={"fc": (3.0, 2.0)})
    assert Result.from_json(result.to_json()) == result
    assert row.percentile(50) == 2


@pytest.mark.parametrize(
    ("fp", "quantized", "message"),
    [
        ([], [], "n > 0"),
        ([1, 0], [1], "same n"),
        ([[1]], [[1]], "n > 0"),
        ([1.0, 0.5], [math.nan, 0], "NaN"),
    ],
)
def test_a_run_that_failed_is_no_result(fp, quantized, message):
    with pytest.raises(BadInput, match=message):
        Result.of(fp, quantized, "d")


@given(st.integers(-5, 2**40), st.text(max_size=5), st.text(max_size=5))
def test_seeds_come_from_named_axes(seed, a, b):
    assert 0 <= seed_for("calib", seed, a) < 2**63
    assert seed_for("calib", seed, a) == seed_for("calib", seed, a)
    assert seed_for("calib", seed, a, b) != seed_for("calib", seed, a + b)
    assert (
        len({seed_for("calib", seed), seed_for("method", seed), seed_for("calib", seed + 1)}) == 3
    )


def test_seeds_are_the_same_on_every_machine():
    # changing it would change every result
    assert seed_for("calib", 0, "shapes/calib") == 6328293476805406421


@pytest.mark.parametrize("seed", [0.5, "0", True, None])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(BadInput, match="whole number"):
        seed_for("calib", seed)


def test_generators_are_independent_and_repeat():
    draws = [generator(axis, 0).initial_seed() for axis in ("calib", "method", "calib")]
    assert draws[0] == draws[2] != draws[1]
