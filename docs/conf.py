"""Sphinx's settings. The API reference comes from the sources by static analysis: no torch is imported.

``methods/``, ``reference/`` and ``bench/`` are packages of quantbench by pyproject's mapping. A copy
below ``build/`` shows them to the analysis at the place where they are imported from.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

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


_lay_out()

project = "quantbench"
extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = "quantbench"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_block"]
napoleon_use_ivar = True

autoapi_dirs = [str(TREE / "quantbench")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_python_class_content = "class"
autoapi_keep_files = False
