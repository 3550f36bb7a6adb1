"""The layers of the library: a contract that holds, and that a planted import breaks."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT = Path(sys.executable).with_name("lint-imports")

DOWN = "Imports only run down"
PLANTED = [
    # an upward import, one hidden in a function, a circle in a package, a plugin in a plugin
    ("errors.py", "from quantbench.system.atomic import locked", DOWN),
    ("network/hooks.py", "def late():\n    from quantbench.cli import main", DOWN),
    ("network/folding.py", "from quantbench.network import network", "No import circles"),
    (
        "methods/nearest.py",
        "from quantbench.methods.adaround import AdaRound",
        "No plugin imports a plugin",
    ),
    ("integer/ir.py", "from quantbench.integer.backends import base", "Inside integer"),
]


@pytest.fixture
def tree(tmp_path):
    """The package as it is installed: with the folders that pyproject.toml maps into it."""
    package = tmp_path / "quantbench"
    python = shutil.ignore_patterns("__pycache__", "*.so", "csrc", "*.json", "*.txt")
    shutil.copytree(ROOT / "src" / "quantbench", package, ignore=python)
    for folder in ("methods", "bench", "reference"):
        shutil.copytree(ROOT / folder, package / folder, ignore=python)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree):
    """What the linter says of a tree, and its exit status."""
    found = subprocess.run(
        [LINT, "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout + found.stderr


def test_the_contract_holds(tree):
    status, said = lint(tree)
    assert status == 0, said
    assert "4 kept, 0 broken" in said


@pytest.mark.parametrize(("file", "line", "broken"), PLANTED, ids=[p[0] for p in PLANTED])
def test_a_planted_import_breaks_it(tree, file, line, broken):
    path = tree / "quantbench" / file
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")
    status, said = lint(tree)
    assert status == 1, said
    assert any(broken in part and "BROKEN" in part for part in said.splitlines()), said


def test_a_package_that_no_layer_names_breaks_it(tree):
    (tree / "quantbench" / "utils").mkdir()
    (tree / "quantbench" / "utils" / "__init__.py").write_text("", encoding="utf-8")
    status, said = lint(tree)
    assert status == 1
    assert "utils" in said


def test_the_picture_shows_the_rows_of_the_contract():
    drawn = (ROOT / "docs" / "img" / "layers.svg").read_text(encoding="utf-8")
    rows = {}
    for y, name in re.findall(r'<text x="[\d.]+" y="(\d+)">(\w+)</text>', drawn):
        rows.setdefault(int(y), set()).add(name)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    left_out = {"__main__", "embedded", "conformance", "reference"}  # doors, and no code
    contract = [set(layer.split(" | ")) - left_out for layer in layers]
    assert [rows[y] for y in sorted(rows)] == [row for row in contract if row]
