"""The pages hold: code runs, commands parse, links lead somewhere, no page is left out."""

import ast
import re
import tomllib

import pytest
import torch

import quantbench
from quantbench.cli.main import main
from quantbench.cli.parser import parser
from tests.docs.pages import DOCS, PAGES, PLUGIN, ROOT, blocks, links, name
from tests.helpers.installed import module

LANGUAGES = {
    "python",
    "bash",
    "console",
    "toml",
    "text",
    "cpp",
    "json",
    "{toctree}",
    "{literalinclude}",
}


def pages_with(language):
    return [page for page in PAGES if any(b.language == language for b in blocks(page))]


@pytest.mark.parametrize("page", pages_with("python"), ids=name)
def test_python_blocks_run_as_one_script(page, tmp_path, monkeypatch):
    script = tmp_path / f"{page.stem}.py"
    parts = [b.text for b in blocks(page) if b.language == "python" and b.reason is None]
    script.write_text("\n".join(parts), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        module(script, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page):
    for block in blocks(page):
        for arguments in block.commands():
            assert parser().parse_args(arguments).command


@pytest.mark.parametrize("page", pages_with("console"), ids=name)
def test_console_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        for arguments in block.commands() if block.reason is None else ():
            assert main(arguments) == 0, arguments
            assert capsys.readouterr().out, arguments


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_marks_have_a_reason_and_languages_are_known(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"a block of {name(page)} has no known language"
        assert block.reason is None or len(block.reason.split()) > 2, block.text
        shell = block.language in ("bash", "console") and block.reason is None
        assert not shell or len(block.commands()) == len(block.text.strip().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_toml_blocks_are_toml(page):
    for block in blocks(page):
        if block.language == "toml":
            tomllib.loads(block.text)


def test_the_page_on_methods_shows_the_example():
    page, plugin = DOCS / "add-a-method.md", PLUGIN.parent / "quantbench_halfway"
    shown = {
        b.language: b.text for b in blocks(page) if b.text.startswith(("from data", "# Eight"))
    }
    method, claims = ((plugin / n).read_text("utf-8") for n in ("__init__.py", "halfway.toml"))
    assert set(shown) == {"python", "toml"}
    assert shown["python"] in method
    assert shown["toml"] in claims


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_internal_links_resolve(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue  # elsewhere
        found = (page.parent / path).resolve() if path else page
        assert found.is_file(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{name(page)} links to {target}"


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    index = DOCS / "index.md"
    entries = [
        line
        for block in blocks(index)
        if block.language == "{toctree}"
        for line in block.text.splitlines()
        if line and not line.startswith((":", "api/"))
    ]
    assert sorted(entries) == sorted(page.stem for page in DOCS.glob("*.md") if page != index)


def test_every_public_name_and_every_method_is_listed():
    text = (DOCS / "public.md").read_text(encoding="utf-8")
    methods = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    known = {f"qb.{key}": where for key, where in quantbench.PUBLIC.items()}
    for key, where in {**known, **methods["quantbench.methods"]}.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{key}` |"))
        assert where.replace(":", ".") in row


def test_the_readme_stays_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 130  # the one-liners, and the counts of verdicts
    command = (
        'python3 -m venv .venv && .venv/bin/python -m pip install -q "nox[uv]" && .venv/bin/nox'
    )
    assert {line for line in lines if line.startswith("python3")} == {
        f"{command} -s reproduce",
        f"{command} -s tests",
    }


def docstrings():
    """Of all modules that the API reference shows: file and text."""
    for path in sorted((ROOT / "src" / "quantbench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield path, ast.get_docstring(node) or ""


def test_docstrings_open_no_emphasis_or_literal_that_they_do_not_close():
    # a warning of Sphinx, and so an error of nox -s docs
    lone = re.compile(r"``|(?<![\w*\\])\*(?=[\w(])")
    closed = re.compile(r"``\S(?:[^`]*\S)?``|\*[\w-]+\*", re.DOTALL)
    assert [(p, d) for p, d in docstrings() if lone.search(closed.sub("", d))] == []
