"""Every executor knows every operator or refuses it by name; a new one is asked for by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import quantbench
from quantbench.errors import QuantbenchError, Unsupported
from quantbench.integer import oracle, store
from quantbench.integer.backends.base import NAMES, backend
from quantbench.integer.dispatch import entry
from quantbench.integer.ir import OPERATORS, Dequantize, Format, Island, Op, Program
from quantbench.integer.simulate import Simulation
from quantbench.integer.testing import fuzz
from quantbench.integer.testing.coverage import PLACES, missing
from quantbench.integer.validate import validate

EXACT = ("native", "intmm", "simulation")  # run all operators, without a code of difference

REFUSED = {  # by runtimes that are not ours
    "litert": {"LRN", "Lut", "Mul", "Rearrange", "Island"},
}

every_operator = pytest.mark.parametrize("kind", OPERATORS, ids=lambda kind: kind.__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Roll(Op):
    """An operator that nothing knows."""

    keeps_format = True

    steps: int


def rolled() -> Program:
    f = Format(0.1, 3)
    op = Roll(name="roll", inputs=("input",), output="y", out=f, steps=1)
    return Program(f, (3, 4, 4), (op,))


def test_what_a_new_operator_lacks_is_listed_by_name() -> None:
    found = missing(Roll)
    needed = [line.split(":")[0].removeprefix("quantbench.") for line in found if "(or" not in line]
    assert needed == [
        "integer",
        "integer.ir",
        "integer.rules",
        "integer.oracle",
        "integer.simulate",
        "integer.testing.builder",
        "integer.backends.native_assembly",
        "quantization.placement.arguments",
    ]
    runtimes = {p.module: p.needs for p in PLACES if p.refuses}
    assert {line.split(":")[0] for line in found if "(or it is refused)" in line} == {
        module for module, needs in runtimes.items() if installed(needs)
    }


def installed(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@every_operator
def test_nothing_that_must_know_an_operator_lacks_it(kind: type[Op]) -> None:
    assert [line for line in missing(kind) if "(or it is refused)" not in line] == []


def test_an_unknown_operator_is_refused_by_name_and_never_run() -> None:
    program = rolled()
    images = np.zeros((1, 3, 4, 4), np.float32)
    with pytest.raises(Unsupported, match="roll: the oracle has no Roll"):
        oracle.run(program, images)
    for name in NAMES:
        found = backend(name)
        if found.available() is None:
            with pytest.raises(QuantbenchError, match="Roll"):
                found.compile(program)
    with pytest.raises(QuantbenchError, match="Roll 'roll': unknown operator"):
        validate(program)


def test_an_operator_that_derives_from_another_is_another() -> None:
    @dataclass(frozen=True, eq=False, kw_only=True)
    class Rounded(Dequantize):
        """In no table."""

    op = Rounded(name="r", inputs=("input",), output="y", out=None)
    with pytest.raises(Unsupported, match="r: this has no Rounded"):
        entry({Dequantize: 1}, op, "this")


@every_operator
@pytest.mark.parametrize("name", NAMES)
def test_every_backend_runs_an_operator_or_refuses_it_by_name(name: str, kind: type[Op]) -> None:
    runs = backend(name)
    if why := runs.available():
        pytest.skip(why)
    refusals = []
    for seed in range(12):
        draw = fuzz.seeded(seed)
        program = fuzz.program_with(kind, draw)
        codes = fuzz.codes(draw, program, 2)
        steps = codes.astype(np.float32) - program.input.zero
        images = steps * np.float32(program.input.scale)
        try:
            compiled = runs.compile(program)
        except Unsupported as refused:
            refusals.append((str(refused), program))
            continue
        got = compiled(images)
        assert kind.__name__ not in REFUSED.get(name, ())
        if name in EXACT:
            expected = oracle.run(program, images)[program.output]
            np.testing.assert_array_equal(got, expected.reshape(got.shape))
    for message, program in refusals:
        assert any(op.name in message for op in program.ops), message
    if kind.__name__ not in REFUSED.get(name, ()):
        assert len(refusals) < (1 if name in EXACT else 12)  # others lack some weights or windows


@every_operator
def test_oracle_and_simulation_agree_on_it_and_the_store_keeps_it(
    kind: type[Op], tmp_path: Path
) -> None:
    for seed in range(5):
        draw = fuzz.seeded(seed)
        program = fuzz.program_with(kind, draw)
        assert kind in map(type, program.ops)
        codes = fuzz.codes(draw, program, 2)
        expected = oracle.run(program, codes)
        for tensor, found in Simulation(program).codes(torch.from_numpy(codes)).items():
            np.testing.assert_array_equal(found.numpy(), expected[tensor], tensor)
        path = tmp_path / "program"
        if kind is Island:
            with pytest.raises(Unsupported, match="island runs in floats"):
                store.save(program, path)
            continue
        store.save(program, path)
        again = oracle.run(store.load(path), codes)
        np.testing.assert_array_equal(again[program.output], expected[program.output])


HERE = Path(quantbench.__file__).parent

NATIVE = 2  # C++ of an operator: its own file, and the one that lists them


def named_in(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Modules of a folder, each with the names that its code uses."""
    for path in folder.rglob("*.py"):
        module = ".".join(["quantbench", *path.relative_to(HERE).with_suffix("").parts])
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        nodes = (n for n in tree if isinstance(n, ast.Name | ast.Attribute | ast.ClassDef))
        fields = {ast.Name: "id", ast.Attribute: "attr", ast.ClassDef: "name"}
        yield module, {getattr(n, fields[type(n)]) for n in nodes}


def test_an_operator_needs_at_most_ten_files() -> None:
    """No code of the integer package names one but what the list says, and who does it better.

    Convolutions are not counted: they are what the package is about.
    """
    needed = {p.module for p in PLACES if not p.refuses}
    assert len(needed | {"quantbench.integer"}) + NATIVE == 10
    refusing = {p.module for p in PLACES if p.refuses}
    better = {"quantbench.integer.backends.onednn", "quantbench.integer.backends.litert.windows"}
    better.add("quantbench.integer.lowering.emit")  # sums, tables, and what is not an operator
    better.add("quantbench.integer.lowering.order")  # what every operator may need around it
    better.add("quantbench.integer.lowering.slopes")
    better.add("quantbench.integer.lowering.volumes")  # layers that become convolutions by others
    names = {op.__name__ for op in OPERATORS} - {"Conv", "Island"}
    for module, used in named_in(HERE / "integer"):
        if module.startswith("quantbench.integer.qdq."):
            continue  # what other tools' operators become: a new one of ours may come from none
        if module not in needed | refusing | better and not module.endswith("testing.fuzz"):
            assert not used & names, module


@pytest.mark.parametrize(
    "name", ["mul", "concat", "lrn", "lut", "pad", "select", "flatten", "dequantize"]
)
def test_an_operator_needs_two_files_of_cpp(name: str) -> None:
    made = re.compile(rf"\bmake_{name}\b|OPERATOR\({name}\)")
    files = HERE.joinpath("csrc").rglob("*.cpp")
    assert sum(bool(made.search(path.read_text(encoding="utf-8"))) for path in files) <= NATIVE
