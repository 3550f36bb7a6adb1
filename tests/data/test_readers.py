"""Decoders of every published layout, on small files of the same layout."""

import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from quantbench.data import images, mosaic, readers
from quantbench.errors import DataCorrupt, DataMissing


def pictures(n, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def jpeg(x, path):
    Image.fromarray(x).save(path, "JPEG", quality=95, subsampling=0)


def test_mosaics_give_back_the_pixels_in_order(tmp_path):
    x = pictures(24)
    for i in range(2):
        mosaic.write(x[12 * i : 12 * i + 12], tmp_path / f"{i:03d}.webp", (3, 4))
    np.save(tmp_path / "labels.npy", np.arange(24, dtype=np.uint8))
    got, y = readers.mosaics(tmp_path, (3, 4), 2, "some/set")
    assert np.array_equal(got, x)
    assert np.array_equal(y, np.arange(24))
    with pytest.raises(DataCorrupt, match="not a mosaic of"):
        readers.mosaics(tmp_path, (4, 4), 2, "some/set")
    (tmp_path / "001.webp").unlink()
    with pytest.raises(DataMissing, match=r"some/set \(001.webp\)"):
        readers.mosaics(tmp_path, (3, 4), 2, "some/set")


def test_tar_reads_the_listed_order_and_takes_the_centre(tmp_path):
    x = pictures(3, size=9)
    for i, one in enumerate(x):
        Image.fromarray(one).save(tmp_path / f"{i}.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in (0, 1, 2):
            archive.add(tmp_path / f"{i}.png", f"{i}.png")
    (tmp_path / "a.csv").write_text("file,label,synset\n2.png,7,n2\n0.png,5,n0\n")
    got, y = readers.tar(tmp_path / "a.tar", tmp_path / "a.csv", size=6)
    assert np.array_equal(got, x[[2, 0], 2:8, 2:8])  # torchvision rounds 1.5 to 2
    assert y.tolist() == [7, 5]
    got, _ = readers.tar(tmp_path / "a.tar", tmp_path / "a.csv", size=6, floor=True)
    assert np.array_equal(got, x[[2, 0], 1:7, 1:7])
    (tmp_path / "a.csv").write_text("file,label,synset\n4.png,7,n2\n")
    with pytest.raises(DataCorrupt, match="does not hold"):
        readers.tar(tmp_path / "a.tar", tmp_path / "a.csv", size=6)


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_half_an_image_is_no_image(keep, tmp_path):
    jpeg(pictures(1, size=64)[0], tmp_path / "a.jpg")
    with pytest.raises(DataCorrupt, match="here is not a whole image"):
        readers.picture((tmp_path / "a.jpg").read_bytes()[:keep], "here")


def image_folder(
    tmp_path, synsets=("n01", "n02", "n05"), sizes=((300, 260), (256, 400), (500, 333))
):
    for synset, (w, h) in zip(synsets, sizes, strict=True):
        (tmp_path / synset).mkdir(parents=True)
        noise = np.random.default_rng(w).integers(0, 256, (h, w, 3), dtype=np.uint8)
        jpeg(noise, tmp_path / synset / "a.JPEG")
    return tmp_path


def test_an_imagenet_folder_is_prepared_as_torchvision_does(tmp_path):
    folder = image_folder(tmp_path / "val")
    paths, y = readers.image_folder(folder, classes=3)
    out = np.empty((3, 224, 224, 3), np.uint8)
    readers.resized(paths, out)
    same = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    want = np.stack([np.asarray(same(Image.open(p).convert("RGB"))) for p in paths])
    assert y.tolist() == [0, 1, 2]
    assert np.array_equal(out, want)


def test_labels_of_an_incomplete_imagenet_folder_come_from_all_synsets(tmp_path):
    folder = image_folder(tmp_path / "val")
    assert readers.image_folder(folder, synsets=("n01", "n02", "n03", "n05"))[1].tolist() == [
        0,
        1,
        3,
    ]
    with pytest.raises(DataCorrupt, match="3 class folders, not 1000"):
        readers.image_folder(folder)
    with pytest.raises(DataCorrupt, match="no ImageNet class, such as n05"):
        readers.image_folder(folder, synsets=("n01", "n02"))


def test_the_users_imagenet_folder_is_a_set(root, monkeypatch):
    image_folder(root / "imagenet" / "val")
    whole = readers.image_folder
    monkeypatch.setattr(readers, "image_folder", lambda f, *a: whole(f, *a, classes=3))
    got = images.images("imagenet/val")
    assert got.x.shape == (3, 224, 224, 3)
    assert got.y.tolist() == [0, 1, 2]


class _Code:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def cifar_folder(root, monkeypatch, batch):
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    meta = {"label_names": ["a"] * 10}
    for name, content in (("test_batch", batch), ("batches.meta", meta)):
        (folder / name).write_bytes(pickle.dumps(content))
    digests = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": digests["batches.meta"]})
    return folder


def test_torchvisions_cifar_folder_is_a_set(root, monkeypatch):
    x = pictures(5)
    batch = {"data": x.transpose(0, 3, 1, 2).reshape(5, -1), "labels": [3, 1, 4, 1, 5]}
    folder = cifar_folder(root, monkeypatch, batch)
    got = images.images("cifar10/test")
    assert np.array_equal(got.x, x)
    assert got.y.tolist() == [3, 1, 4, 1, 5]
    (folder / "test_batch").write_bytes((folder / "test_batch").read_bytes()[:-3])
    with pytest.raises(DataCorrupt, match="not CIFAR-10 as published"):
        images.images("cifar10/test")


def test_a_cifar_batch_with_code_in_it_is_never_unpickled(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = cifar_folder(root, monkeypatch, {"data": np.zeros((1, 3072), np.uint8), "labels": [0]})
    (folder / "test_batch").write_bytes(pickle.dumps(_Code()))
    with pytest.raises(DataCorrupt):
        images.images("cifar10/test")
    assert not Path("executed").exists()
