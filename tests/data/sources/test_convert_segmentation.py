"""Masks and DeepLab's weights from small sources of the same layout."""

import csv
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from quantbench.data.sources import convert_segmentation as convert
from quantbench.errors import DataCorrupt
from quantbench.models.deeplab import DeepLabV3
from tests.helpers.sources import Folder


def test_pictures_and_masks_of_two_sources_become_one_archive(tmp_path):
    for folder in ("test", "second"):
        (tmp_path / folder).mkdir()
    stems = sorted(f"2007_{n}" for n in convert.TRAIN + convert.VAL)
    for stem in stems:
        (tmp_path / "test" / f"{stem}.jpg").write_bytes(f"picture {stem}".encode())
        (tmp_path / "second" / f"{stem}.png").write_bytes(f"mask {stem}".encode())
    convert.voc_tar(Folder(tmp_path), tmp_path / "a.tar", "test")
    convert.voc_csv(Folder(tmp_path), tmp_path / "a.csv", "test")
    with tarfile.open(tmp_path / "a.tar") as archive:
        found = {m.name: archive.extractfile(m).read().decode() for m in archive}
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(stems) == 48
    assert [name for row in rows for name in (row["image"], row["mask"])] == list(found)
    assert all(found[r["image"]].endswith(r["mask"][-15:-4]) for r in rows)
    assert sum(r["split_2012"] == "val" for r in rows) == 22


def test_numbers_of_coco_become_those_of_voc(tmp_path):
    (tmp_path / "m").mkdir()
    theirs = np.array([[0, 1, 62, 200], [5, 72, 17, 3]], np.uint8)
    Image.fromarray(theirs).save(tmp_path / "m" / "7.png")
    folder = tmp_path / "panoptic_segmentation" / "annotations"
    folder.mkdir(parents=True)
    listing = {"annotations": [{"file_name": "7.png"}]}
    (folder / "panoptic_val2017.json").write_text(json.dumps(listing))
    convert.coco_masks(Folder(tmp_path), tmp_path / "a.tar", "m")
    with tarfile.open(tmp_path / "a.tar") as archive, Image.open(archive.extractfile("7.png")) as i:
        assert np.array(i).tolist() == [[255, 15, 9, 0], [1, 20, 8, 7]]
    (tmp_path / "m" / "7.png").write_bytes(b"nothing")
    with pytest.raises(DataCorrupt, match=r"7\.png is not a whole image"):
        convert.coco_masks(Folder(tmp_path), tmp_path / "b.tar", "m")


def test_weights_of_every_layer_find_their_places(tmp_path):
    model, rng = DeepLabV3(size=9), np.random.default_rng(0)
    inverse = {ours: theirs for theirs, ours in model.published_names()}
    layers = {theirs: files for theirs, *files in convert._layers()}
    for key, value in model.state_dict().items():
        layer, _, part = key.rpartition(".")
        theirs = inverse.get(layer, layer)
        kernel, bias = layers[theirs]
        a = rng.standard_normal(value.shape).astype(np.float32)
        value.copy_(value.new_tensor(a))
        if part == "weight":
            order = (1, 2, 3, 0) if kernel.endswith("_depthwise") else (0, 2, 3, 1)
            np.save(tmp_path / f"{kernel}.npy", a.transpose(order))
        else:
            np.save(tmp_path / f"{bias}.npy", a)
    convert.deeplab(Folder(tmp_path), tmp_path / "a.safetensors", ".")
    found = model.prepare(load_file(tmp_path / "a.safetensors"))
    assert found.keys() == model.state_dict().keys()
    assert all(np.array_equal(found[k], v) for k, v in model.state_dict().items())
