"""The public names: lazy, typed, listed, and each what its table says."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import quantbench as qb

METHODS = Path(__file__).resolve().parents[1] / "methods"


def for_type_checkers():
    """Public name -> ``module:name`` as the block under TYPE_CHECKING has them."""
    tree = ast.parse(Path(qb.__file__).read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and node.test.id == "TYPE_CHECKING"
    )
    imported, found = {}, {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = f"{node.module}:{alias.name}"
        else:  # method = _make, since a renamed import is private to type checkers
            found[node.targets[0].id] = imported.pop(node.value.id)
    return {**imported, **found}


def test_type_checkers_see_the_same_names():
    assert for_type_checkers() == qb.PUBLIC


@pytest.mark.parametrize("name", qb.PUBLIC)
def test_every_name_is_what_the_table_says(name):
    module, _, attribute = qb.PUBLIC[name].partition(":")
    assert getattr(qb, name) is getattr(importlib.import_module(module), attribute)
    assert name in dir(qb)
    assert name in qb.__all__


def test_no_module_is_called_like_a_public_name():
    """It would stand in the way of the name as soon as it is imported; one is the name itself."""
    modules = {found.name for found in pkgutil.iter_modules(qb.__path__)}
    assert modules & qb.PUBLIC.keys() == {"network"}
    assert qb.network is importlib.import_module("quantbench.network")
    assert callable(qb.network)


def test_the_package_is_typed():
    assert (Path(qb.__file__).parent / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        qb.quantise  # noqa: B018


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_everything_can_be_imported_at_once():
    code = "from quantbench import *; print(quantize.__module__, method('nearest').name, check)"
    assert run(code).startswith("quantbench.quantization.method nearest <function check")


def test_the_top_is_light():
    """Nothing of the library is imported with it, and so neither are torch and numpy."""
    code = "import sys, quantbench; print(*sorted(m for m in sys.modules if 'quantbench' in m))"
    ours = {m for m in run(code).split() if not m.startswith("__editable__")}
    assert ours == {"quantbench"}


@pytest.mark.parametrize("plugin", sorted(METHODS.glob("*.py")), ids=lambda path: path.stem)
def test_plugins_take_public_names_from_the_top(plugin):
    homes = {tuple(home.split(":")) for home in qb.PUBLIC.values()}
    deeper = {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(plugin.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    # a method is made by its registered name inside of a pipeline, where `method` reads badly
    assert not (homes & deeper) - {("quantbench.quantization.registry", "make")}
