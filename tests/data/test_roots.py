"""Where things are, in a clone and without one: an installed package carries the embedded tier."""

import hashlib

import pytest

from quantbench.cli import data as command
from quantbench.cli.main import main
from quantbench.data import dvc, manifest, roots
from quantbench.data.manifest import Entry

OWN = Entry("embedded/own.txt", set="own", sha256=hashlib.sha256(b"own").hexdigest(), bytes=3)
REAL = Entry("text/a.txt", set="text/a")


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A working folder that is in no clone, for a package that is in none either."""
    for name in ("QUANTBENCH_DATA", "QUANTBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    package = tmp_path / "lib" / "site-packages" / "quantbench" / "data"
    (package / "embedded").mkdir(parents=True)
    monkeypatch.setattr(roots, "__file__", str(package / "roots.py"))
    monkeypatch.setattr(roots, "PACKAGE", package)
    for module in (manifest, command):
        monkeypatch.setattr(module, "table", lambda: {e.name: e for e in (OWN, REAL)})
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_without_a_clone_data_are_expected_here_and_the_cache_is_the_users(nowhere, tmp_path):
    assert not roots.in_clone()
    assert roots.data_root() == nowhere / "data"
    assert roots.cache_root() == tmp_path / "home" / ".cache" / "quantbench"


def test_the_users_cache_can_be_elsewhere(nowhere, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere / "x"))
    assert roots.cache_root() == nowhere / "x" / "quantbench"
    monkeypatch.setenv("QUANTBENCH_CACHE", str(nowhere / "y"))
    assert roots.cache_root() == nowhere / "y"


def test_a_project_with_data_of_its_own_under_dvc_is_no_clone(nowhere):
    (nowhere / "data.dvc").write_text("outs:\n- md5: 0\n  path: data\n")
    (nowhere / ".dvc").mkdir()
    assert not roots.in_clone()
    assert [m.name for m in dvc.ensure(say=lambda _: None)] == ["own", "text/a"]
    (nowhere / ".dvc" / "embedded").mkdir()
    assert roots.in_clone()


def test_what_the_package_carries_is_found_after_what_is_in_the_data_root(nowhere):
    carried = roots.PACKAGE / OWN.name
    assert manifest.locate(OWN.name) == nowhere / "data" / OWN.name  # neither is here
    carried.write_bytes(b"own")
    assert manifest.verified(OWN.name) == carried
    assert dvc.ensure("embedded", say=pytest.fail) == []
    own = nowhere / "data" / OWN.name
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    assert manifest.locate(OWN.name) == own


@pytest.mark.usefixtures("nowhere")
def test_no_advice_leads_to_itself_without_a_clone(capsys):
    (roots.PACKAGE / OWN.name).write_bytes(b"damaged")
    assert main(["data", "pull"]) == 2
    own, real = capsys.readouterr().out.splitlines()
    assert "pip install --force-reinstall" in own
    assert "QUANTBENCH_DATA=" in real


def test_a_remote_belongs_to_a_clone(nowhere, capsys):
    assert main(["data", "remote", str(nowhere)]) == 2
    assert f"export QUANTBENCH_DATA={nowhere} instead" in capsys.readouterr().err
