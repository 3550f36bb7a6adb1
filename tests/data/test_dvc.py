"""DVC: what the clone holds, what a plain folder of files can serve, and what is still missing."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from quantbench.data import dvc, manifest, roots
from quantbench.data.manifest import Entry
from quantbench.errors import DataMissing


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a data.dvc of one embedded and two real outputs, and a folder of the latter."""
    folder = tmp_path / "elsewhere"
    (folder / "text").mkdir(parents=True)
    (folder / "cifar10" / "train").mkdir(parents=True)
    (folder / "text" / "a.txt").write_text("a")
    for i in range(2):
        (folder / "cifar10" / "train" / f"{i}.webp").write_text(str(i))
    root = tmp_path / "clone"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text(
        "[core]\n analytics = false\n no_scm = true\n[cache]\n type = symlink,copy\n"
        "['remote \"embedded\"']\n url = embedded\n['remote \"real\"']\n url = real\n"
    )
    md5 = lambda c: hashlib.md5(c).hexdigest()  # noqa: E731
    listing = json.dumps([{"md5": md5(str(i).encode()), "relpath": f"{i}.webp"} for i in range(2)])
    own = md5(b"own")
    (root / ".dvc" / "embedded" / "files" / "md5" / own[:2]).mkdir(parents=True)
    (root / ".dvc" / "embedded" / "files" / "md5" / own[:2] / own[2:]).write_bytes(b"own")
    rows = [
        (own, "data/embedded/own.txt", "embedded"),
        (md5(b"a"), "data/text/a.txt", "real"),
        (md5(listing.encode()) + ".dir", "data/cifar10/train", "real"),
        (md5(b"never"), "data/text/b.txt", "real"),
    ]
    (root / "data.dvc").write_text(
        "outs:\n"
        + "".join(f"- md5: {m}\n  hash: md5\n  path: {p}\n  remote: {r}\n" for m, p, r in rows)
    )
    named = {
        "embedded/own.txt": Entry("embedded/own.txt", set="own", sha256=sha(b"own"), bytes=3),
        "text/a.txt": Entry(
            "text/a.txt", set="text/a", sha256=sha(b"a"), bytes=1, repository="owner/repo"
        ),
        "text/b.txt": Entry("text/b.txt", set="text/b", sha256=sha(b"never"), bytes=5),
    }
    monkeypatch.delenv("QUANTBENCH_DATA", raising=False)
    monkeypatch.delenv("QUANTBENCH_CACHE", raising=False)
    monkeypatch.setattr(manifest, "table", lambda: named)
    monkeypatch.setattr(roots, "clone_root", lambda: root)
    return root, folder


@pytest.mark.slow
def test_one_call_pulls_what_there_is_and_names_the_rest(clone, monkeypatch):
    root, folder = clone
    said = []
    missing = dvc.ensure("embedded", say=said.append)
    assert (root / "data" / "embedded" / "own.txt").read_text() == "own"
    assert missing == said == []
    assert [m.name for m in dvc.ensure(say=said.append)] == ["text/a", "text/b"]
    assert said[0] == "text/a is not here; to get it: quantbench data fetch text/a"
    assert said[1].startswith("text/b is not here; to get it: quantbench data remote")
    dvc.make_remote(folder)
    assert [m.name for m in dvc.ensure(say=said.append)] == ["text/b"]
    # linked, not copied
    assert (root / "data" / "text" / "a.txt").resolve() == folder / "text" / "a.txt"
    with monkeypatch.context() as patch:
        patch.setattr(
            subprocess, "Popen", lambda *_, **__: pytest.fail("DVC was asked for what is here")
        )
        assert dvc.ensure("embedded", "text/a") == []


@pytest.mark.slow
def test_files_that_a_later_version_names_come_from_the_folder_beside(clone):
    root, folder = clone
    beside = root / dvc.BESIDE
    beside.parent.mkdir()
    folder.rename(beside)
    assert [m.name for m in dvc.ensure()] == ["text/b"]
    (beside / "text" / "b.txt").write_text("never")  # as if data.dvc named it only now
    assert dvc.ensure() == []
    assert (root / "data" / "text" / "b.txt").read_text() == "never"


@pytest.mark.slow
def test_a_changed_embedded_file_is_pulled_again(clone):
    root, _ = clone
    dvc.ensure("embedded")
    path = root / "data" / "embedded" / "own.txt"
    path.unlink()
    path.write_text("old")
    assert dvc.ensure("embedded") == []
    assert path.read_text() == "own"


@pytest.mark.slow
def test_an_index_that_a_kill_left_behind_is_thrown_away(clone, monkeypatch):
    root, _ = clone
    index = root / ".dvc" / "tmp" / "site" / "of a killed pull"
    index.mkdir(parents=True)
    pull, calls = dvc._watched, []

    def misled(*about):
        calls.append(index.exists())
        return (0, "") if index.exists() else pull(*about)

    monkeypatch.setattr(dvc, "_watched", misled)
    assert dvc.ensure("embedded") == []
    assert calls == [True, False]


@pytest.mark.slow
def test_a_pull_that_could_not_bring_a_file_does_not_advise_a_pull_alone(clone):
    root, _ = clone
    shutil.rmtree(root / ".dvc" / "embedded" / "files")
    (missing,) = dvc.ensure("embedded")
    assert missing.command.startswith("git checkout -- data.dvc .dvc, then quantbench data pull")


def test_a_plain_folder_becomes_a_content_addressed_remote(clone):
    _, folder = clone
    store = dvc.make_remote(folder) / "files" / "md5"
    links = [p for p in store.rglob("*") if p.is_file()]
    assert len(links) == 4  # a.txt, two mosaics, and DVC's listing of their folder
    assert sum(p.is_symlink() for p in links) == 3
    assert all(
        hashlib.md5(p.read_bytes()).hexdigest() == (p.parent.name + p.name).removesuffix(".dir")
        for p in links
    )
    (folder / "text" / "a.txt").write_text("changed")
    for p in links:
        p.unlink()
    dvc.make_remote(folder)
    # the changed file is not taken for the published one
    assert len([p for p in store.rglob("*") if p.is_file()]) == 3


@pytest.mark.usefixtures("clone")
def test_a_folder_without_the_data_is_no_remote(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissing, match="empty"):
        dvc.make_remote(tmp_path / "empty")


def test_data_dvc_and_the_table_name_the_same_files():
    outs = {o.path.relative_to("data").as_posix(): o.remote for o in dvc._outs(roots.clone_root())}
    for entry in manifest.table().values():
        above = [entry.name, *(p.as_posix() for p in Path(entry.name).parents)]
        (out,) = [outs[a] for a in above if a in outs]
        assert out == ("embedded" if entry.name.startswith("embedded/") else "real")
