"""Downloads from a server on the loopback address that truncates, lies, dawdles and resumes; conversions; DVC."""

import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import subprocess
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.datasets import CIFAR10

from quantbench import contents, data, fetch, files, remote
from quantbench.download import FetchFailed, Patience, download
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.files import Entry

QUICK = Patience(timeout=0.3, rate=4096, tries=2)  # a loopback server answers in milliseconds


class Server(http.server.ThreadingHTTPServer):
    """Serves ``pages``; ``fault`` names a misbehaviour, ``asked`` lists (path, Range header)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked, self.fault, self.resumes = {}, [], "", True
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Clients that hang up are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        span = self.headers.get("Range")
        self.server.asked.append((self.path, span))
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        if self.server.fault == "busy":
            self.send_error(503)
            return
        start = int(span[6:-1]) if span and self.server.resumes else 0
        if start >= len(page) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(page) - start))
        self.end_headers()
        if self.server.fault == "silent":
            time.sleep(1)
        elif self.server.fault == "drip":
            for i in range(start, len(page)):
                self.wfile.write(page[i : i + 1])
                self.wfile.flush()
                time.sleep(0.01)
        else:
            half = self.server.fault == "truncate"
            self.wfile.write(page[start : (start + len(page) + 1) // 2 if half else None])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "clone_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def serve(server, path, content):
    server.pages[f"/owner/repo/c0ffee/{path}"] = content


def known(monkeypatch, **entries):
    """Know only these files, each from owner/repo at commit c0ffee."""
    named = {
        name: Entry(name=name, repository="owner/repo", commit="c0ffee", **fields) for name, fields in entries.items()
    }
    for module in (files, fetch, data):
        monkeypatch.setattr(module, "table", lambda: named)
    monkeypatch.setattr(fetch, "FETCHABLE", {n: b for n, e in named.items() if (b := fetch._builder(e))})
    return named


def sha(content):
    return hashlib.sha256(content).hexdigest()


TEXT = os.urandom(30_000)


def text(monkeypatch, server, content=TEXT):
    known(monkeypatch, **{"text/stsbenchmark/a.csv": {"set": "a", "sha256": sha(TEXT), "source": "data/a.csv"}})
    serve(server, "data/a.csv", content)


def left(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


# ---- download


def test_a_file_comes_whole_with_progress(server, tmp_path):
    server.pages["/a"] = TEXT
    seen = []
    path = download(server.url + "/a", tmp_path / "x" / "a", progress=lambda *args: seen.append(args))
    assert path.read_bytes() == TEXT
    assert seen[-1] == (len(TEXT), len(TEXT), "a")
    assert download(server.url + "/a", path) == path
    assert len(server.asked) == 1  # what is there is not asked for again


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_goes_on_or_begins_anew(server, tmp_path, resumes):
    server.pages["/a"], server.resumes = TEXT, resumes
    (tmp_path / "a.part").write_bytes(TEXT[:1000] if resumes else b"something else")
    assert download(server.url + "/a", tmp_path / "a").read_bytes() == TEXT
    assert server.asked[0][1] == ("bytes=1000-" if resumes else "bytes=14-")


def test_a_server_that_hangs_up_is_asked_again_for_the_rest(server, tmp_path):
    server.pages["/a"], server.fault = TEXT, "truncate"
    patience = Patience(timeout=1, tries=30)  # each try brings half of what is left
    assert download(server.url + "/a", tmp_path / "a", patience=patience).read_bytes() == TEXT
    assert server.asked[1] == ("/a", "bytes=15000-")


def test_a_truncated_download_is_kept_for_the_next_try(server, tmp_path):
    server.pages["/a"], server.fault = TEXT, "truncate"
    with pytest.raises(FetchFailed, match=r"cut short at 22500 of 30000 bytes; 22500 bytes are kept"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert not (tmp_path / "a").exists()
    server.fault = ""
    assert download(server.url + "/a", tmp_path / "a", patience=QUICK).read_bytes() == TEXT


@pytest.mark.parametrize("fault", ["silent", "drip"])
def test_a_slow_server_times_out_with_a_clear_message(server, tmp_path, fault):
    server.pages["/a"], server.fault = TEXT, fault
    start = time.monotonic()
    with pytest.raises(FetchFailed, match=r"timed out.*run the same command again"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert time.monotonic() - start < 5  # two tries of 0.3 seconds, and room for a busy machine
    assert not (tmp_path / "a").exists()


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    server.pages["/a"] = TEXT
    (tmp_path / "a.part").write_bytes(TEXT + b"more")
    assert download(server.url + "/a", tmp_path / "a").read_bytes() == TEXT


def test_what_is_gone_is_not_asked_for_twice_but_a_busy_server_is(server, tmp_path):
    with pytest.raises(FetchFailed, match="404"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert len(server.asked) == 1
    server.pages["/a"], server.fault = TEXT, "busy"
    with pytest.raises(FetchFailed, match="failed 2 times, last: 503"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)


def test_an_unreachable_server_is_named(tmp_path, server):
    server.server_close()
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1.*refused"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)


def test_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch):
    server.pages["/a"] = TEXT
    real = Path.open

    def full(self, mode="r", **rest):
        file = real(self, mode, **rest)
        if "w" in mode:

            def write(block):
                type(file).write(file, block[:10])
                raise OSError(errno.ENOSPC, "No space left on device")

            return Shim(file, write)
        return file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(FetchFailed, match=r"the disk is full: .*nothing of it was left"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert left(tmp_path) == []


class Shim:
    """A file whose ``write`` is another function."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


# ---- fetch


def test_what_is_fetched_is_checked_and_put_in_place(server, root, monkeypatch):
    text(monkeypatch, server)
    assert fetch.fetch("a", base_url=server.url) == [root / "text/stsbenchmark/a.csv"]
    assert data.file("text/stsbenchmark/a.csv").read_bytes() == TEXT
    assert left(root) == ["text/stsbenchmark/a.csv"]
    fetch.fetch("a", base_url=server.url)
    assert len(server.asked) == 1  # already here and right


@pytest.mark.parametrize("content", [TEXT[:-1], b"another " + TEXT, b""])
def test_a_wrong_digest_puts_nothing_in_place(server, root, monkeypatch, content):
    text(monkeypatch, server, content)
    with pytest.raises(DataCorrupt, match="not the published"):
        fetch.fetch("a", base_url=server.url)
    assert left(root) == []


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
    assert [p for p in left(root) if not p.startswith(".fetch/owner/")] == []


def test_what_has_no_source_is_said(root):
    with pytest.raises(BadInput, match="no public source"):
        fetch.fetch("checkpoints/cifar10_resnet20_akamaster.json")
    with pytest.raises(BadInput, match="did you mean"):
        fetch.fetch("cifar10/test_100", root)


def test_everything_with_a_public_source_can_be_fetched():
    without = {e.name for e in files.table().values() if not e.repository}
    assert set(files.table()) - without == set(fetch.FETCHABLE)
    for builder in set(fetch.FETCHABLE.values()):
        module, _, function = builder.partition(":")
        assert callable(getattr(__import__(module, fromlist=["_"]), function))


# ---- conversions: small files of the same layout as the sources


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


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "best_prec1": 91.7, "epoch": 3}])
def test_a_pickled_checkpoint_becomes_plain_tensors(server, root, monkeypatch, tmp_path, wrap):
    state = {"module.conv.weight": torch.randn(4, 3).t(), "module.bn.num": torch.tensor(3)}
    want = {"conv.weight": state["module.conv.weight"].contiguous(), "bn.num": torch.tensor(3)}
    from safetensors.torch import save_file

    save_file(want, tmp_path / "want.safetensors", metadata={"packed": "otherwise"})
    pth(monkeypatch, contents.digest(tmp_path / "want.safetensors"))
    serve(server, "net.th", saved(wrap(state)))
    (path,) = fetch.fetch("net", base_url=server.url)
    got = load_file(path)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[k], want[k]) for k in want)
    assert data.file(path.relative_to(root).as_posix()) == path  # accepted by its contents, packed differently


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
def test_a_checkpoint_that_is_more_or_less_than_tensors_is_refused(server, root, monkeypatch, content, message):
    pth(monkeypatch, "")
    serve(server, "net.th", content)
    with pytest.raises(DataCorrupt, match=message):
        fetch.fetch("net", base_url=server.url)
    assert left(root) == []
    assert not Path("executed").exists()


class Folder:
    """Sources in a folder, in place of a download."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *paths):
        return [self.path / p for p in paths]

    def other(self, name):
        return self.path / name


def floats(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.ascontiguousarray(array, "<f4").tobytes())


def test_keras_shards_become_torch_weights_that_compute_the_same(tmp_path):
    from quantbench.convert_weights import tfjs

    rng = np.random.default_rng(0)
    weights = {
        "conv1/kernel": rng.normal(size=(3, 3, 3, 8)),
        "conv_dw_2/depthwise_kernel": rng.normal(size=(3, 3, 8, 1)),
        "conv_pw_1/kernel": rng.normal(size=(1, 1, 8, 16)),
        "conv_pw_1_bn/gamma": rng.normal(size=16),
        "conv_pw_1_bn/moving_variance": rng.random(16),
        "conv_preds/kernel": rng.normal(size=(1, 1, 16, 5)),
        "conv_preds/bias": rng.normal(size=5),
    }
    manifest = []
    for i, (name, w) in enumerate(weights.items()):
        floats(tmp_path / f"g{i}", w)
        manifest.append({"paths": [f"g{i}"], "weights": [{"name": name, "shape": w.shape, "dtype": "float32"}]})
    (tmp_path / "mobilenet_model.json").write_text(json.dumps({"weightsManifest": manifest}))
    tfjs(Folder(tmp_path), tmp_path / "out.safetensors", ".")
    got = load_file(tmp_path / "out.safetensors")
    image = rng.normal(size=(3, 3, 3)).astype(np.float32)  # one output position: a sum over the whole kernel
    want = np.einsum("hwi,hwio->o", image, weights["conv1/kernel"])
    here = torch.nn.functional.conv2d(torch.from_numpy(image.transpose(2, 0, 1))[None], got["stem.1.weight"])
    assert np.allclose(here.flatten().numpy(), want, atol=1e-4)  # float32 sums of 27 products of size 1
    assert np.allclose(got["blocks.1.0.1.weight"][3, 0], weights["conv_dw_2/depthwise_kernel"][:, :, 3, 0])
    assert np.allclose(got["blocks.0.1.0.weight"][..., 0, 0], weights["conv_pw_1/kernel"][0, 0].T)
    assert {k for k in got if k.startswith("blocks.0.1.1")} == {
        f"blocks.0.1.1.{k}" for k in ("weight", "running_var", "num_batches_tracked")
    }
    assert np.allclose(got["fc.weight"], weights["conv_preds/kernel"][0, 0].T)
    (tmp_path / "g0").write_bytes(b"1234")
    with pytest.raises(DataCorrupt, match="1 values, its manifest says 216"):
        tfjs(Folder(tmp_path), tmp_path / "out.safetensors", ".")


def convnetjs(folder, batches):
    labels = np.random.default_rng(1).permutation(np.arange(1000 * batches) % 10)
    (folder / "cifar10_labels.js").write_text(f"var labels={labels.tolist()};")
    x = np.random.default_rng(0).integers(0, 256, (batches, 1000, 1024, 3), dtype=np.uint8)
    x //= 64  # compresses
    for i, rows in enumerate(x):
        Image.fromarray(rows).save(folder / f"cifar10_batch_{i}.png", compress_level=1)
    return x.reshape(-1, 32, 32, 3), labels


def test_cifar_rows_of_pixels_become_images(tmp_path):
    from quantbench.convert_data import _batches

    x, y = convnetjs(tmp_path, 2)
    got, labels = _batches(Folder(tmp_path), ".", [1])
    assert np.array_equal(got, x[1000:])
    assert np.array_equal(labels, y[1000:])
    with pytest.raises(DataCorrupt, match="not a batch of 500"):
        _batches(Folder(tmp_path), ".", [1], each=500)


def test_an_archive_of_one_text_becomes_gz(tmp_path):
    from quantbench.convert_data import unzip_json, zipped

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("dev.json", '{"data": []}')
        archive.writestr("__MACOSX/._dev.json", "x")
    unzip_json(Folder(tmp_path), tmp_path / "a.json.gz", "a.zip")
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == b'{"data": []}'
    zipped(Folder(tmp_path), tmp_path / "b.gz", "a.zip")
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-9])
    with pytest.raises(DataCorrupt, match=r"not a whole \.zip"):
        unzip_json(Folder(tmp_path), tmp_path / "a.json.gz", "a.zip")


def test_images_listed_by_the_source_become_a_tar_and_a_csv(tmp_path):
    from quantbench.convert_data import imagenet_train, imagenet_train_csv, imagenet_val, imagenet_val_csv
    from quantbench.readers import tar

    (tmp_path / "data").mkdir()
    for name in ("data/v1.JPEG", "data/v2.JPEG", "n00000001_b.JPEG", "n00000002_a.JPEG"):
        noise = np.random.default_rng(len(name)).integers(0, 256, (230, 300, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "dataset.txt").write_text("./data/v2.JPEG, 1\n./data/v1.JPEG, 0\n")
    (tmp_path / "synset_words.txt").write_text("n01 a, b\nn02 c\n")
    (tmp_path / "gallery.md").write_text("![x](n00000002_a.JPEG) ![y](n00000001_b.JPEG)")
    get = Folder(tmp_path)
    imagenet_val(get, tmp_path / "v.tar", ".")
    imagenet_val_csv(get, tmp_path / "v.csv", ".")
    imagenet_train(get, tmp_path / "t.tar", "")
    imagenet_train_csv(get, tmp_path / "t.csv", "")
    assert (tmp_path / "v.csv").read_bytes() == b"file,label,synset\r\nv2.JPEG,1,n02\r\nv1.JPEG,0,n01\r\n"
    x, y = tar(tmp_path / "v.tar", tmp_path / "v.csv")
    assert y.tolist() == [1, 0]
    x, y = tar(tmp_path / "t.tar", tmp_path / "t.csv")
    assert x.shape == (2, 224, 224, 3)
    assert y.tolist() == [0, 1]


# ---- torchvision


def cifar_archive(monkeypatch):
    """An archive laid out as torchvision's, with two images."""
    batch = {"data": np.arange(2 * 3072, dtype=np.uint8).reshape(2, -1), "labels": [3, 7]}
    parts = {"test_batch": pickle.dumps(batch), "batches.meta": pickle.dumps({"label_names": ["a"] * 10})}
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
    fetch.fetch("cifar10/test_10000", base_url=server.url)
    got = data.images("cifar10/test_10000")
    assert got.y.tolist() == [3, 7]
    assert got.x[0, 0, 1].tolist() == [1, 1024 % 256 + 1, 2048 % 256 + 1]  # planes of 1,024 in the source
    assert not (root / CIFAR10.filename).exists()


def test_a_wrong_cifar_archive_is_not_unpacked(server, root, monkeypatch):
    server.pages[f"/{CIFAR10.filename}"] = cifar_archive(monkeypatch)[:-1]
    with pytest.raises(DataCorrupt, match="MD5"):
        fetch.fetch("cifar10/test_10000", base_url=server.url)
    assert left(root) == []


@pytest.mark.usefixtures("root")
def test_torchvisions_weights_come_by_name_and_are_checked(server, monkeypatch, tmp_path):
    from quantbench.zoo import torchvision as zoo

    content = saved({"fc.weight": torch.ones(2, 2)})
    named = f"squeezenet-{sha(content)[:8]}.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(zoo, "weights_of", lambda _: type("W", (), {"url": f"https://somewhere/{named}", "name": "V1"}))
    server.pages[f"/{named}"] = content
    (path,) = fetch.fetch("torchvision/squeezenet1_0", base_url=server.url)
    assert path == tmp_path / "torch" / "hub" / "checkpoints" / named
    assert torch.equal(zoo.read("squeezenet1_0")["fc.weight"], torch.ones(2, 2))
    path.unlink()
    server.pages[f"/{named}"] = content + b"0"
    with pytest.raises(DataCorrupt, match="should start with"):
        fetch.fetch("torchvision/squeezenet1_0", base_url=server.url)
    assert not path.exists()


# ---- DVC


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a data.dvc of one embedded and two real outputs, and a plain folder that holds the real ones."""
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
        "outs:\n" + "".join(f"- md5: {m}\n  hash: md5\n  path: {p}\n  remote: {r}\n" for m, p, r in rows)
    )
    named = {
        "embedded/own.txt": Entry("embedded/own.txt", set="own", sha256=sha(b"own"), bytes=3),
        "text/a.txt": Entry("text/a.txt", set="text/a", sha256=sha(b"a"), bytes=1, repository="owner/repo"),
        "text/b.txt": Entry("text/b.txt", set="text/b", sha256=sha(b"never"), bytes=5),
    }
    monkeypatch.delenv("QUANTBENCH_DATA", raising=False)
    monkeypatch.delenv("QUANTBENCH_CACHE", raising=False)
    monkeypatch.setattr(files, "table", lambda: named)
    for module in (files, remote):
        monkeypatch.setattr(module, "clone_root", lambda: root)
    return root, folder


def test_one_call_pulls_what_there_is_and_names_the_rest(clone, monkeypatch):
    root, folder = clone
    said = []
    missing = remote.ensure("embedded", say=said.append)
    assert (root / "data" / "embedded" / "own.txt").read_text() == "own"
    assert missing == said == []
    assert [m.name for m in remote.ensure(say=said.append)] == ["text/a", "text/b"]
    assert said[0] == "text/a is not here; to get it: quantbench data fetch text/a"
    assert said[1].startswith("text/b is not here; to get it: quantbench data remote")
    remote.make_remote(folder)
    assert [m.name for m in remote.ensure(say=said.append)] == ["text/b"]
    assert (root / "data" / "text" / "a.txt").resolve() == folder / "text" / "a.txt"  # linked, not copied
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("DVC was asked for what is here"))
        assert remote.ensure("embedded", "text/a") == []


def test_a_changed_embedded_file_is_pulled_again(clone):
    root, _ = clone
    remote.ensure("embedded")
    path = root / "data" / "embedded" / "own.txt"
    path.unlink()
    path.write_text("old")
    assert remote.ensure("embedded") == []
    assert path.read_text() == "own"


def test_a_plain_folder_becomes_a_content_addressed_remote(clone):
    _, folder = clone
    store = remote.make_remote(folder) / "files" / "md5"
    links = [p for p in store.rglob("*") if p.is_file()]
    assert len(links) == 4  # a.txt, two mosaics, and DVC's listing of their folder
    assert sum(p.is_symlink() for p in links) == 3
    assert all(hashlib.md5(p.read_bytes()).hexdigest() == (p.parent.name + p.name).removesuffix(".dir") for p in links)
    (folder / "text" / "a.txt").write_text("changed")
    for p in links:
        p.unlink()
    remote.make_remote(folder)
    assert len([p for p in store.rglob("*") if p.is_file()]) == 3  # the changed file is not taken for the published one


@pytest.mark.usefixtures("clone")
def test_a_folder_without_the_data_is_no_remote(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissing, match="empty"):
        remote.make_remote(tmp_path / "empty")


def test_data_dvc_and_the_table_name_the_same_files():
    outs = {o.path.relative_to("data").as_posix(): o.remote for o in remote._outs(files.clone_root())}
    for entry in files.table().values():
        above = [entry.name, *(p.as_posix() for p in Path(entry.name).parents)]
        (out,) = [outs[a] for a in above if a in outs]
        assert out == ("embedded" if entry.name.startswith("embedded/") else "real")
