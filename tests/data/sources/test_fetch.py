"""Fetching: whatever the server sends, only what was published is put in place."""

import errno
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.datasets import CIFAR10

from quantbench.data import content_digest, images, manifest
from quantbench.data.manifest import Entry
from quantbench.data.sources import fetch
from quantbench.data.sources.download import FetchFailed, Patience
from quantbench.errors import BadInput, DataCorrupt, QuantbenchError

QUICK = Patience(timeout=0.3, rate=4096, tries=2)  # a loopback server answers in milliseconds
TEXT = os.urandom(30_000)


def serve(server, path, content):
    server.pages[f"/owner/repo/c0ffee/{path}"] = content


def known(monkeypatch, **entries):
    """Know only these files, each from owner/repo at commit c0ffee."""
    named = {
        name: Entry(name=name, repository="owner/repo", commit="c0ffee", **fields)
        for name, fields in entries.items()
    }
    for module in (manifest, fetch, images):
        monkeypatch.setattr(module, "table", lambda: named)
    monkeypatch.setattr(
        fetch, "FETCHABLE", {n: b for n, e in named.items() if (b := fetch._builder(e))}
    )
    return named


def sha(content):
    return hashlib.sha256(content).hexdigest()


def text(monkeypatch, server, content=TEXT):
    known(
        monkeypatch,
        **{"text/stsbenchmark/a.csv": {"set": "a", "sha256": sha(TEXT), "source": "data/a.csv"}},
    )
    serve(server, "data/a.csv", content)


def left(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_what_is_fetched_is_checked_and_put_in_place(server, root, monkeypatch):
    text(monkeypatch, server)
    assert fetch.fetch("a", base_url=server.url) == [root / "text/stsbenchmark/a.csv"]
    assert images.file("text/stsbenchmark/a.csv").read_bytes() == TEXT
    assert left(root) == ["text/stsbenchmark/a.csv"]
    fetch.fetch("a", base_url=server.url)
    assert len(server.asked) == 1  # already here and right


@pytest.mark.parametrize("content", [TEXT[:-1], b"another " + TEXT, b""])
def test_a_wrong_digest_puts_nothing_in_place(server, root, monkeypatch, content):
    text(monkeypatch, server, content)
    with pytest.raises(DataCorrupt, match="not the published"):
        fetch.fetch("a", base_url=server.url)
    assert left(root) == []


def test_the_second_source_of_a_file_is_another_repository(server, root, tmp_path):
    server.pages["/other/place/beef/a/b.bin"] = TEXT
    entry = Entry("a", repository="owner/repo", commit="c0ffee", second="other/place@beef:a/b.bin")
    source = fetch.Source(root, tmp_path, server.url, fetch.silent, QUICK, entry)
    assert source.second().read_bytes() == TEXT


def test_two_fetches_at_once_do_not_mix(server, root, monkeypatch):
    text(monkeypatch, server)
    held = "with atomic.locked(pathlib.Path(sys.argv[1])):\n print(flush=True); input()"
    code = f"import sys, pathlib\nfrom quantbench.system import atomic\n{held}"
    run = [sys.executable, "-c", code, str(root / ".fetch")]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(QuantbenchError, match="another run"):
            fetch.fetch("a", base_url=server.url)
        other.communicate(b"\n")
    assert fetch.fetch("a", base_url=server.url)


def test_a_corrupt_file_is_replaced(server, root, monkeypatch):
    text(monkeypatch, server)
    path = root / "text/stsbenchmark/a.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"corrupt")
    fetch.fetch("a", base_url=server.url)
    assert path.read_bytes() == TEXT


def test_a_wrong_download_does_not_replace_what_is_here(server, root, monkeypatch):
    text(monkeypatch, server, b"wrong")
    path = root / "text/stsbenchmark/a.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    with pytest.raises(DataCorrupt):
        fetch.fetch("a", base_url=server.url)
    assert path.read_bytes() == b"old"


def test_an_interrupted_fetch_goes_on(server, root, monkeypatch):
    text(monkeypatch, server)
    server.fault = "truncate"
    with pytest.raises(FetchFailed):
        fetch.fetch("a", base_url=server.url, patience=QUICK)
    server.fault = ""
    fetch.fetch("a", base_url=server.url)
    assert server.asked[-1][1] == "bytes=22500-"
    assert left(root) == ["text/stsbenchmark/a.csv"]


def test_a_disk_that_fills_while_converting_leaves_nothing_built(server, root, monkeypatch):
    text(monkeypatch, server)

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FetchFailed, match="the disk is full"):
        fetch.fetch("a", base_url=server.url)
    # whole downloads are kept
    assert left(root) == [".fetch/.lock", ".fetch/owner/repo/c0ffee/data/a.csv"]


def test_what_has_no_source_is_said(root):
    with pytest.raises(BadInput, match="no public source"):
        fetch.fetch("checkpoints/cifar10_resnet20_akamaster.json")
    with pytest.raises(BadInput, match="did you mean"):
        fetch.fetch("cifar10/tests", root)


def test_everything_with_a_public_source_can_be_fetched():
    without = {e.name for e in manifest.table().values() if not e.repository}
    assert set(manifest.table()) - without == set(fetch.FETCHABLE)
    for builder in set(fetch.FETCHABLE.values()):
        module, _, function = builder.partition(":")
        assert callable(getattr(__import__(module, fromlist=["_"]), function))


# ---- checkpoints as their authors saved them


def saved(obj):
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    return buffer.getvalue()


class _Code:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def pth(monkeypatch, content):
    entry = {"set": "net", "sha256": "0" * 64, "content": content, "source": "net.th"}
    known(monkeypatch, **{"checkpoints/cifar10_net.safetensors": entry})


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "best_prec1": 91.7, "epoch": 3}]
)
def test_a_pickled_checkpoint_becomes_plain_tensors(server, root, monkeypatch, tmp_path, wrap):
    state = {"module.conv.weight": torch.randn(4, 3).t(), "module.bn.num": torch.tensor(3)}
    want = {"conv.weight": state["module.conv.weight"].contiguous(), "bn.num": torch.tensor(3)}
    save_file(want, tmp_path / "want.safetensors", metadata={"packed": "otherwise"})
    pth(monkeypatch, content_digest.digest(tmp_path / "want.safetensors"))
    serve(server, "net.th", saved(wrap(state)))
    (path,) = fetch.fetch("net", base_url=server.url)
    got = load_file(path)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[k], want[k]) for k in want)
    # accepted by its contents, packed differently
    assert images.file(path.relative_to(root).as_posix()) == path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved({"state_dict": _Code()}), "would run code when loaded; refused"),
        (pickle.dumps(_Code(), protocol=2), "would run code when loaded; refused"),
        (saved({"a": torch.ones(99)})[:300], "not a whole checkpoint"),
        (saved([1, 2]), "no state dict"),
        (saved({"state_dict": {"a": "text"}}), "no state dict"),
    ],
)
def test_a_checkpoint_that_is_more_or_less_than_tensors_is_refused(
    server, root, monkeypatch, content, message
):
    pth(monkeypatch, "")
    serve(server, "net.th", content)
    with pytest.raises(DataCorrupt, match=message):
        fetch.fetch("net", base_url=server.url)
    assert left(root) == []
    assert not Path("executed").exists()


# ---- torchvision


def cifar_archive(monkeypatch):
    """An archive laid out as torchvision's, with two images."""
    batch = {"data": np.arange(2 * 3072, dtype=np.uint8).reshape(2, -1), "labels": [3, 7]}
    parts = {
        "test_batch": pickle.dumps(batch),
        "batches.meta": pickle.dumps({"label_names": ["a"] * 10}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in parts.items()}
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    return buffer.getvalue()


def test_torchvisions_cifar_is_fetched_and_read(server, root, monkeypatch):
    server.pages[f"/{CIFAR10.filename}"] = cifar_archive(monkeypatch)
    fetch.fetch("cifar10/test", base_url=server.url)
    got = images.images("cifar10/test")
    assert got.y.tolist() == [3, 7]
    # planes of 1,024 in the source
    assert got.x[0, 0, 1].tolist() == [1, 1024 % 256 + 1, 2048 % 256 + 1]
    assert not (root / CIFAR10.filename).exists()


def test_a_wrong_cifar_archive_is_not_unpacked(server, root, monkeypatch):
    server.pages[f"/{CIFAR10.filename}"] = cifar_archive(monkeypatch)[:-1]
    with pytest.raises(DataCorrupt, match="MD5"):
        fetch.fetch("cifar10/test", base_url=server.url)
    assert left(root) == []


@pytest.mark.usefixtures("root")
def test_torchvisions_weights_come_by_name_and_are_checked(server, monkeypatch, tmp_path):
    from quantbench.data import torchvision_weights

    content = saved({"fc.weight": torch.ones(2, 2)})
    named = f"squeezenet-{sha(content)[:8]}.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(
        torchvision_weights,
        "weights_of",
        lambda _: type("W", (), {"url": f"https://somewhere/{named}", "name": "V1"}),
    )
    server.pages[f"/{named}"] = content
    (path,) = fetch.fetch("torchvision/squeezenet1_0", base_url=server.url)
    assert path == tmp_path / "torch" / "hub" / "checkpoints" / named
    assert torch.equal(torchvision_weights.read("squeezenet1_0")["fc.weight"], torch.ones(2, 2))
    path.unlink()
    server.pages[f"/{named}"] = content + b"0"
    with pytest.raises(DataCorrupt, match="should start with"):
        fetch.fetch("torchvision/squeezenet1_0", base_url=server.url)
    assert not path.exists()
