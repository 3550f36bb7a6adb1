"""``quantbench new``: the example under another name; tests/test_installed.py works with one."""

import errno
import os
import tomllib
from pathlib import Path

import pytest
import yaml

from quantbench.claims.parse import parse
from quantbench.cli.main import main
from quantbench.cli.new import FILES
from tests.helpers.installed import module

EXAMPLE = Path(__file__).parents[2] / "examples" / "halfway"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_is_what_new_writes(folder):
    assert main(["new", "halfway"]) == 0
    written = folder / "quantbench-halfway"
    files = {p.relative_to(written).as_posix(): p for p in written.rglob("*") if p.is_file()}
    assert set(files) == set(FILES)
    for name, path in files.items():
        assert path.read_bytes() == (EXAMPLE / name).read_bytes(), name


# the second name has the example's in it, which must not be renamed again
@pytest.mark.parametrize(("name", "title"), [("half_way2", "HalfWay2"), ("nhalfway", "Nhalfway")])
def test_a_plugin_of_another_name_works_from_the_start(name, title, folder, monkeypatch, capsys):
    assert main(["new", name]) == 0
    assert f"pip install -e {folder / f'quantbench-{name}'}" in capsys.readouterr().out
    written = folder / f"quantbench-{name}"
    monkeypatch.syspath_prepend(written)
    module(written / f"test_{name}.py", monkeypatch).test_conformance()
    file = written / f"quantbench_{name}" / f"{name}.toml"
    claims = parse(file.read_text(), file.name)
    assert {(claim.paper, claim.method, claim.gates) for claim in claims} == {(name, name, True)}
    about = tomllib.loads((written / "pyproject.toml").read_text())
    points = about["project"]["entry-points"]
    assert points["quantbench.methods"] == {name: f"quantbench_{name}:{title}"}
    assert points["quantbench.reference"] == {name: f"quantbench_{name}"}
    workflow = yaml.safe_load((written / ".github/workflows/quantbench.yml").read_text())
    commands = [step.get("run", "") for step in workflow["jobs"]["gate"]["steps"]]
    assert any(line.startswith(f"quantbench gate {name} --baseline ") for line in commands)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not-a-name", "cannot name a method"),
        ("Upper", "cannot name a method"),
        ("ends_", "cannot name a method"),
        ("é", "cannot name a method"),
        ("class", "cannot name a method"),
        ("method", "cannot name a method"),
        ("nearest", "there is a method 'nearest' already"),
        ("mqbench", "there is a paper 'mqbench' already"),
    ],
)
def test_a_name_that_cannot_be_taken(name, message, folder, capsys):
    assert main(["new", name]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_a_folder_that_exists_is_left_alone(folder, capsys):
    (folder / "quantbench-halfway").mkdir()
    assert main(["new", "halfway"]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert not list((folder / "quantbench-halfway").iterdir())


def test_a_full_disk_leaves_no_half_plugin(folder, monkeypatch, capsys):
    def full(self, *_, **__):
        if self.suffix == ".toml" and self.parent.name == "quantbench_halfway":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, "")

    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", full)
    assert main(["new", "halfway"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list(folder.iterdir())
