"""Sphinx's settings. The API reference comes from static analysis: no torch is imported.

``methods/``, ``reference/`` and ``bench/`` are packages of quantbench by pyproject's mapping. A
copy below ``build/`` shows them to the analysis at the place where they are imported from.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
TREE = ROOT / "build" / "api"


def _lay_out() -> None:
    """A copy of every part of the package under the name that it is imported by."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shutil.rmtree(TREE, ignore_errors=True)
    for name, folder in about["tool"]["setuptools"]["package-dir"].items():
        for path in (ROOT / folder).rglob("*.py"):
            to = TREE.joinpath(*name.split("."), path.relative_to(ROOT / folder))
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def _as_drawn(
    _app: Sphinx, what: str, _name: str, _of: object, _how: object, text: list[str]
) -> None:
    """Docstrings are plain text: drawings in those of modules are kept, and ``|x|`` is a norm."""
    if what in ("module", "package") and any(line.startswith("  ") for line in text):
        text[:] = ["::", "", *("    " + line for line in text)]
        return
    code = re.compile(r"(``.*?``)")
    for i, line in enumerate(text):
        parts = code.split(line)
        text[i] = "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in parts)


def _skip(_app: Sphinx, what: str, name: str, obj: Any, skip: bool, _how: object) -> bool:
    """Leave out what has no docstring, but for the fields of methods: these are hyperparameters."""
    field = what == "attribute" and name.startswith("quantbench.methods.") and name.count(".") > 3
    return skip or not (obj.docstring or field)


def setup(app: Sphinx) -> None:
    """Docstrings before napoleon reads them, and members before they are shown."""
    app.connect("autodoc-process-docstring", _as_drawn, priority=100)
    app.connect("autoapi-skip-member", _skip)


_lay_out()

project = "quantbench"
extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = "quantbench"
html_extra_path = [p.name for p in [ROOT / "docs" / "example"] if p.is_dir()]  # of nox -s docs
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_block"]
napoleon_use_ivar = True

autoapi_dirs = [str(TREE / "quantbench")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_python_class_content = "class"
autoapi_keep_files = False

suppress_warnings = [
    "autoapi.python_import_resolution",  # constants without a docstring have no page
    "toc.not_included",  # the reference would make every page's menu; tests/docs looks for the rest
    "ref.python",  # bytes, the type, is also the name of attributes
]
