"""Sets, checkpoints and the check of every byte; real formats, made small in tmp_path."""

import errno
import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from quantbench.data import content_digest, decoded, image_sets, images, manifest, mosaic
from quantbench.data.manifest import Entry
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.models.checkpoint import checkpoint
from quantbench.system.digests import file_digest


def known(monkeypatch, *entries):
    """Make these the only known files."""
    named = {e.name: e for e in entries}
    for module in (manifest, images, image_sets):
        monkeypatch.setattr(module, "table", lambda: named)


def add(root, monkeypatch, name, write, **fields):
    """Write a file and declare it with the digest that it has."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    entry = Entry(name, sha256=file_digest(path), bytes=path.stat().st_size, **fields)
    known(monkeypatch, entry)
    return path


def pictures(n, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def cifar_test(root, monkeypatch, x, y):
    """A CIFAR-10 test set of a few images, two in a mosaic, and its known digests."""
    folder = root / "cifar10" / "test"
    folder.mkdir(parents=True)
    monkeypatch.setattr(image_sets, "CIFAR_GRID", (1, 2))
    for i in range(len(x) // 2):
        mosaic.write(x[2 * i : 2 * i + 2], folder / f"{i:03d}.webp", (1, 2))
    np.save(folder / "labels.npy", y)
    known(
        monkeypatch,
        Entry("cifar10/test/labels.npy", sha256=file_digest(folder / "labels.npy")),
        Entry(
            "cifar10/test/*.webp",
            files=len(x) // 2,
            decoded=hashlib.sha256(x.tobytes()).hexdigest(),
        ),
    )
    return folder


# ---- digests


def test_a_set_is_read_and_its_digest_covers_pixels_and_labels(root, monkeypatch):
    x, y = pictures(6), np.arange(6, dtype=np.uint8)
    cifar_test(root, monkeypatch, x, y)
    got = images.images("cifar10/test")
    assert np.array_equal(got.x, x)
    assert got.y.dtype == np.int64
    assert got.digest == hashlib.sha256(x.tobytes() + y.astype(np.int64).tobytes()).hexdigest()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-7], lambda b: b[:40] + b"\0" + b[41:], lambda _: b""]
)
def test_a_truncated_or_changed_file_is_not_read(root, monkeypatch, damage):
    path = cifar_test(root, monkeypatch, pictures(2), np.zeros(2, np.uint8)) / "labels.npy"
    # seen whole once: the remembered check must not hide the damage
    images.images("cifar10/test")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataCorrupt, match="fetch it again"):
        images.images("cifar10/test")


def test_a_checked_file_is_not_read_twice(root, monkeypatch):
    path = add(root, monkeypatch, "text/a.txt", lambda p: p.write_text("a"))
    reads = []
    real = manifest.file_digest
    monkeypatch.setattr(manifest, "file_digest", lambda p: reads.append(p) or real(p))
    assert images.file("text/a.txt") == images.file("text/a.txt") == path
    assert reads == [path]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(root, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    cifar_test(root, monkeypatch, pictures(2), np.zeros(2, np.uint8))
    monkeypatch.setattr(Path, "mkdir", full)
    assert len(images.images("cifar10/test").x) == 2


def test_a_full_disk_leaves_no_partial_cache(root, tmp_path, monkeypatch):
    source = root / "source"
    source.write_text("one")
    x, y = pictures(3), np.arange(3)

    def full(file, array, **_):
        file.write(array.tobytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    got, _, digest = decoded.cached("a/b", ("source",), lambda: (x, y))
    assert got is x
    assert digest == decoded.content_digest(x, y)
    assert not list((tmp_path / "cache" / "decoded").iterdir())


@pytest.mark.usefixtures("root")
def test_what_is_missing_is_named_with_the_command_that_brings_it():
    with pytest.raises(DataMissing) as e:
        images.images("cifar10/test")
    assert e.value.command == "quantbench data fetch cifar10/test"


@pytest.mark.usefixtures("root")
def test_unknown_names_suggest_the_nearest():
    with pytest.raises(BadInput, match="cifar10/test"):
        images.images("cifar10/tests")
    with pytest.raises(BadInput, match="cifar10_resnet20_akamaster"):
        manifest.members("cifar10_resnet20_akamastr")


def test_every_image_set_that_is_stored_is_in_the_table():
    # rows and another crop of imagenet/val_1300
    derived = {f"imagenet/val_{name}" for name in ("300_calib", "1000_eval", "1300_floor")}
    users = {"imagenet/val", "imagenet/train", "voc/val", "voc/train"}
    own = {"shapes/train", "shapes/test"} | users | derived
    assert set(image_sets.SETS) - own == {
        e.set for e in manifest.table().values() if e.set in image_sets.SETS
    }


# ---- the decode cache


def test_decoded_once_until_the_source_changes(root):
    source = root / "source"
    source.write_text("one")
    calls = []

    def read():
        calls.append(1)
        return pictures(3, seed=len(calls)), np.arange(3)

    first = decoded.cached("a/b", ("source",), read)
    again = decoded.cached("a/b", ("source",), read)
    assert len(calls) == 1
    assert np.array_equal(first[0], again[0])
    assert first[2] == again[2] == decoded.content_digest(first[0], first[1])
    source.write_text("another")
    assert decoded.cached("a/b", ("source",), read)[2] != first[2]
    assert len(calls) == 2


@pytest.mark.parametrize("suffix", [".x.npy", ".y.npy", ".json"])
def test_a_damaged_cache_is_made_again(root, tmp_path, suffix):
    (root / "source").write_text("one")
    read = lambda: (pictures(3), np.arange(3))  # noqa: E731
    digest = decoded.cached("a/b", ("source",), read)[2]
    (path,) = (tmp_path / "cache" / "decoded").glob("*" + suffix)
    path.write_bytes(path.read_bytes()[:-5])
    x, y, again = decoded.cached("a/b", ("source",), read)
    assert again == digest == decoded.content_digest(np.asarray(x), y)


@pytest.mark.usefixtures("root")
def test_a_scratch_array_leaves_no_file(tmp_path):
    x = decoded.scratch("big", (4, 2, 2, 3))
    x[:] = 7
    assert int(x.sum()) == 7 * 48
    assert not list((tmp_path / "cache" / "decoded").iterdir())


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_changed_mosaic_is_found_by_the_digest_of_the_pixels(root, monkeypatch, part):
    x = pictures(4)
    folder = cifar_test(root, monkeypatch, x, np.arange(4, dtype=np.uint8))
    if part == "train":
        folder = folder.rename(folder.with_name("train"))
        known(
            monkeypatch,
            *(replace(e, name=e.name.replace("test", "train")) for e in manifest.table().values()),
        )
    assert np.array_equal(images.images(f"cifar10/{part}").x, x)
    mosaic.write(255 - x[:2], folder / "000.webp", (1, 2))
    os.utime(folder / "labels.npy", (1, 1))  # so that the decode cache does not answer
    with pytest.raises(DataCorrupt, match="one of them was changed"):
        images.images(f"cifar10/{part}")


def test_calibration_images_are_rows_of_the_training_set(root, monkeypatch):
    x, y = pictures(6), np.arange(6, dtype=np.int64)
    monkeypatch.setitem(image_sets.SETS, "cifar10/train", image_sets._Set(lambda: (x, y)))
    rows = np.array([4, 1, 1], np.int32)
    add(root, monkeypatch, "cifar10/calib_4096_index.npy", lambda p: np.save(p, rows))
    got = images.images("cifar10/calib_4096")
    assert np.array_equal(got.x, x[rows])
    assert got.y.tolist() == [4, 1, 1]


# ---- checkpoints


class _Code:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_a_checkpoint_is_read_and_half_precision_becomes_float(root, monkeypatch):
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.tensor(3),
        "c": torch.tensor([0.5]).half(),
    }
    add(
        root, monkeypatch, "checkpoints/net.safetensors", lambda p: save_file(tensors, p), set="net"
    )
    got = checkpoint("net")
    assert torch.equal(got["a"], tensors["a"])
    assert got["b"].dtype == torch.int64
    assert got["c"].dtype == torch.float32


@pytest.mark.parametrize("content", [b"", b"\x80\x04not tensors", pickle.dumps(_Code())])
def test_a_file_that_is_no_safetensors_is_refused_even_with_the_right_digest(
    root, monkeypatch, tmp_path, content
):
    monkeypatch.chdir(tmp_path)
    add(
        root,
        monkeypatch,
        "checkpoints/net.safetensors",
        lambda p: p.write_bytes(content),
        set="net",
    )
    with pytest.raises(DataCorrupt, match="not a safetensors file"):
        checkpoint("net")
    assert not Path("executed").exists()


# ---- contents


def test_content_digest_ignores_packing_and_sees_every_value(tmp_path):
    a, b, c = (tmp_path / f"{n}.npz" for n in "abc")
    np.savez(a, x=np.arange(5), y=np.zeros(2))
    np.savez_compressed(b, y=np.zeros(2), x=np.arange(5))
    np.savez(c, x=np.arange(5), y=np.zeros(2, np.float32))
    assert content_digest.digest(a) == content_digest.digest(b) != content_digest.digest(c)
    b.write_bytes(b.read_bytes()[:50])
    with pytest.raises(DataCorrupt, match=r"not a whole \.npz"):
        content_digest.digest(b)
