"""Every bad input gives its own clear error and exit code, and nothing else happens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from quantbench.cli import main as command
from quantbench.data.roots import cache_root
from tests.reliability.corpus.table import CORPUS, counts

LONGEST = 1000  # characters of an error: it is read by people


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a row is made and met: with its own packages, data and cache."""
    cache = tmp_path / "cache"
    cache.mkdir()
    if (parsed := cache_root() / "sources.json").exists():  # else sources are parsed for a while
        shutil.copy(parsed, cache)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(cache))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def require_clear(row, code, said):
    assert code == row.code, said
    assert "Traceback" not in said
    assert not [words for words in row.says if words not in said], said
    assert len(said) < LONGEST


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: row.name)
def test_an_error_says_what_is_wrong(row, folder, monkeypatch, capsys):
    made = row.make(folder)
    if callable(row.meets):  # behind the command line's own door
        monkeypatch.setitem(command._COMMANDS, "list", lambda _: row.meets(folder) and 0)
    code = command.main(("list",) if callable(row.meets) else row.words(made))
    require_clear(row, code, capsys.readouterr().err)
    assert not list(folder.rglob("owned"))


FIRST = {row.kind: row for row in reversed(CORPUS) if not callable(row.meets)}


@pytest.mark.slow
@pytest.mark.parametrize("row", FIRST.values(), ids=lambda row: row.name)
def test_so_does_a_process(row, folder):
    words = row.words(row.make(folder))
    env = {**os.environ, "PYTHONPATH": str(folder / "site")}
    run = [sys.executable, "-m", "quantbench", *words]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    require_clear(row, done.returncode, done.stderr)


def test_the_table_is_large_enough():
    assert len(CORPUS) >= 80
    assert min(counts().values()) >= 5
    assert len({row.name for row in CORPUS}) == len(CORPUS)
