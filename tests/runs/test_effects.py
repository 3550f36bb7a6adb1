"""What can change a number: one rule by package, whatever an import looks like."""

import importlib.metadata
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

import quantbench
from quantbench.errors import BadInput
from quantbench.methods.adaround import AdaRound
from quantbench.methods.dfq import DFQ
from quantbench.methods.nearest import Nearest
from quantbench.methods.pipelines import Advanced
from quantbench.quantization import registry
from quantbench.quantization.method import Pipeline
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.runs import source_hash
from quantbench.runs.cell import Cell
from quantbench.runs.description import Description
from quantbench.runs.effects import EFFECTS
from quantbench.runs.lab import Lab
from quantbench.runs.recipe import Recipe
from quantbench.runs.source_hash import forget, source_hashes
from tests.helpers.tiny import Tiny

SRC = Path(quantbench.__file__).parent
CLONE = SRC.parents[1]
MAPPED = {"methods", "reference", "bench"}  # folders of the clone, see pyproject.toml
COMPILED = {"_native"}


@pytest.fixture(autouse=True)
def anew():
    """Sources are read once in a process."""
    forget()
    yield
    forget()


@pytest.fixture
def change(monkeypatch):
    """Change the code of a module for this process, as far as keys see it."""

    def plant(module):
        real, path = Path.read_bytes, source_hash._path(module)

        def read_bytes(self):
            return real(self) + (b"\nplanted = 1\n" if self == path else b"")

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        forget()

    return plant


def cell(method, model="shapes/resnet8", placement="inputs"):
    scheme = Scheme(Grid(4), Grid(8, symmetric=False), placement=placement)
    return Cell(method, scheme, model, "c", "calib", 8, "d", "eval", "e", 0)


def stranger(tmp_path, monkeypatch, **files):
    """A package of somebody else, under a name that no other test has."""
    folder = tmp_path / f"effects_{tmp_path.name}"
    folder.mkdir()
    for name, text in {"__init__": "", **files}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    return folder.name


def of(module):
    """A cell whose method is described as one that a module defines; nothing is imported."""
    return replace(cell(None), method=Described(module))


class Described(Recipe):
    """A recipe whose description is known."""

    def __init__(self, *modules):
        object.__setattr__(self, "modules", modules)

    def description(self):
        return Description({"name": "m", "version": 1}, {"name": "m"}, self.modules)


def modules_of(package):
    """Every module of a package."""
    name = f"quantbench.{package}".removesuffix(".__init__")
    return [name, *source_hash._below(name)] if package != "__init__" else [name]


def test_every_package_is_in_the_table():
    mapped = tomllib.loads((CLONE / "pyproject.toml").read_text())
    folders = mapped["tool"]["setuptools"]["package-dir"]
    assert {f"quantbench.{m}" for m in MAPPED} == folders.keys() - {"quantbench"}
    packages = {p.parent.name for p in SRC.glob("*/__init__.py")}
    modules = {p.stem for p in SRC.glob("*.py")}
    assert EFFECTS.keys() == packages | modules | MAPPED | COMPILED


@pytest.mark.parametrize("package", sorted(EFFECTS))
def test_a_change_in_a_package_changes_the_key_as_the_table_says(
    tmp_path, monkeypatch, change, package
):
    """The method imports a module of the package."""
    module = modules_of(package)[-1]
    name = stranger(tmp_path, monkeypatch, method=f"import {module}\n")
    before = of(f"{name}.method").key()
    assert of(f"{name}.method").key() == before
    change(module)
    assert (of(f"{name}.method").key() != before) == EFFECTS[package]


@pytest.mark.parametrize(
    "module",
    [
        "quantbench.system.seeds",
        "quantbench.network.folding",
        "quantbench.quantization.ranges",
        "quantbench.calibration.walk",
        "quantbench.optimization.soft_rounding",
        "quantbench.models.preprocess",
        "quantbench.models.cifar_resnet",
        "quantbench.tasks.measure",
        "quantbench.tasks.images",
        "quantbench.tasks.evaluate",
        "quantbench.methods.adaround",
    ],
)
def test_a_cell_depends_on_all_that_its_run_goes_through(change, module):
    before = cell(AdaRound()).key()
    change(module)
    assert cell(AdaRound()).key() != before


@pytest.mark.parametrize(
    "module",
    [
        "quantbench.data.readers",
        "quantbench.data.images",
        "quantbench.runs.lab",
        "quantbench.evidence.result",
        "quantbench.tasks.detection.detectors",
        "quantbench.methods.brecq",
    ],
)
def test_a_cell_does_not_depend_on_what_its_run_does_without(change, module):
    before = cell(AdaRound()).key()
    change(module)
    assert cell(AdaRound()).key() == before


def test_a_cell_runs_again_when_its_source_changed(tmp_path, change):
    tiny, lab = Tiny(), Lab(tmp_path)

    def run():
        method, scheme = Recipe("nearest"), Scheme(Grid(4))
        return lab.result(lab.cell(tiny, method, scheme, "tiny/calib", 8, 0))

    first = run()
    assert run() == first
    assert len(lab.fresh) == tiny.evaluations == 2  # full precision too
    change("quantbench.methods.nearest")
    assert run().digest == first.digest
    assert len(lab.fresh) == tiny.evaluations == 3


@pytest.mark.parametrize(
    ("model", "module"),
    [
        ("scenes/retinanet", "quantbench.tasks.detection.coco"),
        ("qa/bert", "quantbench.tasks.spans"),
        ("squad/bert-base-uncased", "quantbench.models.bert"),
        ("stsb/minilm", "quantbench.tasks.texts"),
    ],
)
def test_the_task_of_a_network_is_in_the_key(change, model, module):
    before, images = cell(Nearest(), model).key(), cell(Nearest()).key()
    change(module)
    assert cell(Nearest(), model).key() != before
    assert cell(Nearest()).key() == images


def test_what_is_timed_depends_on_the_kernels(change):
    placed, plain = cell(Nearest(), placement="integer"), cell(Nearest())
    before = placed.key(), plain.key()
    assert "quantbench.integer.backends.native" in placed.key_fields()["source"]
    change("quantbench.integer.backends.native")
    assert replace(placed).key() != before[0]
    assert replace(plain).key() == before[1]
    change("quantbench._native")
    assert replace(placed).key() != before[0]


STYLES = {
    "from a import b": "from quantbench.calibration import shift\nx = shift.f\n",
    "import a.b as b": "import quantbench.calibration.shift as s\nx = s.f\n",
    "import a.b": "import quantbench.calibration.shift\nx = quantbench.calibration.shift.f\n",
    "from a import b, of a": "from quantbench import calibration\nx = calibration.shift.f\n",
    "import a": "import quantbench as qb\nx = qb.calibration.shift.f\n",
    "from a.b import c": "from quantbench.calibration.shift import f\nx = f\n",
    "in a function": "def g():\n    from quantbench.calibration.shift import f\n    return f\n",
    "import_module": "from importlib import import_module\n"
    "x = import_module('quantbench.calibration.shift')\n",
    "entry point": "x = 'quantbench.calibration.shift:f'\n",
}


@pytest.mark.parametrize("style", STYLES)
def test_the_style_of_an_import_does_not_matter(tmp_path, monkeypatch, style):
    name = stranger(tmp_path, monkeypatch, method=STYLES[style])
    found = source_hashes([f"{name}.method"])
    own = found.pop(f"{name}.method")
    assert own
    assert found == source_hashes(["quantbench.calibration.shift"])


def test_imports_for_type_checkers_do_not_count(tmp_path, monkeypatch):
    text = (
        "import typing\nif typing.TYPE_CHECKING:\n    import quantbench.calibration.shift\n"
        "else:\n    import quantbench.system.seeds\n"
    )
    name = stranger(tmp_path, monkeypatch, method=text)
    assert source_hashes([f"{name}.method"]).keys() == {
        f"{name}.method",
        "quantbench.system.seeds",
    }


def test_a_package_that_is_handed_on_brings_all_of_its_modules(tmp_path, monkeypatch):
    text = "from quantbench import calibration\nx = getattr(calibration, 'sh' + 'ift')\n"
    name = stranger(tmp_path, monkeypatch, method=text)
    assert set(source_hashes(modules_of("calibration"))) <= set(source_hashes([f"{name}.method"]))


def test_a_package_runs_before_its_modules(tmp_path, monkeypatch):
    name = stranger(tmp_path, monkeypatch, __init__="y = 1\n", helper="", method="")
    (tmp_path / name / "method.py").write_text(f"import {name}.helper\n")
    before = source_hashes([f"{name}.method"])
    (tmp_path / name / "__init__.py").write_text("y = 2\n")
    forget()
    assert source_hashes([f"{name}.method"]) != before


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("import quantbench as qb\nx = qb.quantize\n", "quantbench.quantization.method"),
        ("from quantbench import Method, Job\n", "quantbench.quantization.quantized"),
        ("from quantbench import weight_range as w\n", "quantbench.quantization.ranges"),
        ("import quantbench as qb\nx = getattr(qb, 'low' + 'er')\n", "quantbench.integer.ir"),
        ("from quantbench import *\n", "quantbench.integer.ir"),
    ],
)
def test_what_lies_beneath_public_names_makes_a_plugin_stale(
    tmp_path, monkeypatch, change, text, module
):
    name = stranger(tmp_path, monkeypatch, method=text)
    before = of(f"{name}.method").key_fields()["source"][f"{name}.method"], of(f"{name}.method")
    key = before[1].key()
    change(module)
    assert of(f"{name}.method").key() != key
    assert of(f"{name}.method").key_fields()["source"][f"{name}.method"] == before[0]


@dataclass(frozen=True)
class Outer:
    name: ClassVar[str] = "outer"
    version: ClassVar[int] = 1
    inner: object = None


@pytest.mark.parametrize(
    "method",
    [DFQ(), Pipeline((Nearest(), DFQ())), Outer(DFQ()), Outer((Outer(DFQ()),))],
    ids=["itself", "pipeline", "within", "deep within"],
)
def test_a_method_depends_on_those_that_it_uses(change, method):
    before = cell(method).key()
    assert "quantbench.methods.equalize" in cell(method).key_fields()["source"]
    change("quantbench.methods.equalize")
    assert cell(method).key() != before


def test_uses_are_followed_through_uses(change):
    """The pipeline uses adaquant and allocate, which imports what it needs."""
    found = cell(Advanced()).key_fields()["source"]
    used = {"adaquant", "allocation", "nearest", "tuning"}
    assert {f"quantbench.methods.{m}" for m in used} <= found.keys()
    change("quantbench.methods.tuning")
    assert cell(Advanced()).key_fields()["source"] != found


def installed(monkeypatch, **modules):
    """Entry points beside those that are installed."""
    known = registry.methods()
    more = {
        name: importlib.metadata.EntryPoint(name, f"{module}:M", registry.GROUP)
        for name, module in modules.items()
    }
    monkeypatch.setattr(source_hash, "methods", lambda: {**known, **more})


def test_uses_lead_into_other_distributions(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    deep = stranger(tmp_path / "b", monkeypatch, method="x = 1\n", helper="")
    text = "class M:\n    uses: ClassVar = ('theirs',)\n"
    name = stranger(tmp_path / "a", monkeypatch, method=text)
    installed(monkeypatch, theirs=f"{deep}.method")
    before = of(f"{name}.method").key()
    (tmp_path / "b" / deep / "method.py").write_text("x = 2\n")
    forget()
    assert of(f"{name}.method").key() != before


def test_a_used_method_that_is_not_installed_is_named(tmp_path, monkeypatch):
    name = stranger(tmp_path, monkeypatch, method="class M:\n    uses = ('adarond',)\n")
    with pytest.raises(BadInput, match="no method 'adarond'; did you mean adaround"):
        of(f"{name}.method").key()


def test_a_public_name_that_is_a_package_too_hides_no_module_of_it():
    assert "quantbench.network.hooks" in source_hash._modules("quantbench.network.hooks.capture")
    assert source_hash._modules("quantbench.network") == ("quantbench", "quantbench.network")
