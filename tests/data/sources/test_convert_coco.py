"""The images, boxes and detector of COCO, from small files of the same layout as their sources."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from quantbench.data.image_sets import splits
from quantbench.data.sources import convert_coco
from quantbench.errors import DataCorrupt
from tests.helpers.sources import Folder

SIZES = {7: (640, 480), 12: (300, 500)}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two images, one with boxes and a licence."""
    monkeypatch.setattr(convert_coco, "splits", lambda: {"coco/first128": {"ids": list(SIZES)}})
    for folder in ("images", convert_coco._LABELS, "panoptic_segmentation/annotations"):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, (w, h) in SIZES.items():
        pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number:012d}.jpg")
        (tmp_path / convert_coco._LABELS / f"{number:012d}.txt").write_text("")
    lines = "3 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.2 0.4\n"
    (tmp_path / convert_coco._LABELS / f"{7:012d}.txt").write_text(lines)
    (tmp_path / convert_coco._CONFIG).write_text("names:\n  0: person\n  1: cat dog\n")
    masks = {"licenses": [{"id": 4, "name": "Free"}], "images": [{"id": 7, "license": 4}]}
    (tmp_path / convert_coco._PANOPTIC).write_text(json.dumps(masks))
    return tmp_path


def test_images_are_scaled_and_boxes_with_them(source):
    get, out = Folder(source), source / "a.tar"
    convert_coco.images(get, out, "images")
    with tarfile.open(out) as archive:
        sizes = {
            m.name: Image.open(io.BytesIO(archive.extractfile(m).read())).size for m in archive
        }
    assert sizes == {"000000000007.jpg": (416, 312), "000000000012.jpg": (250, 416)}
    convert_coco.boxes(get, out, "images")
    content = json.loads(out.read_text())
    assert [(r["width"], r["height"]) for r in content["images"]] == list(sizes.values())
    assert [r.get("licence") for r in content["images"]] == ["Free", None]
    assert content["categories"] == [{"id": 0, "name": "person"}, {"id": 1, "name": "cat dog"}]
    assert [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]] == [
        (7, 3, [156.0, 78.0, 104.0, 156.0]),
        (7, 0, [0.0, 0.0, 83.2, 124.8]),
    ]
    assert [a["area"] for a in content["annotations"]] == [16224.0, 10383.36]


@pytest.mark.parametrize("line", ["3 0.5 0.5 0.25", "cat 0 0 1 1", "3 0 0 1 1 1"])
def test_what_is_no_box_is_refused_with_its_line(source, line):
    (source / convert_coco._LABELS / f"{7:012d}.txt").write_text(line)
    with pytest.raises(DataCorrupt, match=line):
        convert_coco.boxes(Folder(source), source / "a.json", "images")


def test_what_is_no_image_is_refused(source):
    (source / "images/000000000012.jpg").write_bytes(b"page not found")
    for make in (convert_coco.images, convert_coco.boxes):
        with pytest.raises(DataCorrupt, match=r"012.jpg is not a whole image"):
            make(Folder(source), source / "out", "images")


def test_convolutions_of_onnx_are_named_in_order_of_execution(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra runtimes, which reads .onnx")
    names = list(convert_coco._nanodet_layers())
    assert len(names) == len(set(names)) == 73
    arrays = [np.full((1, 1, 1, 1), i, np.float32) for i in range(73)]
    biases = [np.full(1, -i, np.float32) for i in range(73)]
    nodes = [
        onnx.helper.make_node("Conv", [f"t{i}", f"w{i}", f"b{i}"], [f"t{i + 1}"]) for i in range(73)
    ]
    stored = [onnx.numpy_helper.from_array(a, f"w{i}") for i, a in enumerate(arrays)]
    stored += [onnx.numpy_helper.from_array(b, f"b{i}") for i, b in enumerate(biases)]
    graph = onnx.helper.make_graph(nodes, "net", [], [], stored)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    convert_coco.nanodet(Folder(tmp_path), tmp_path / "out.safetensors", "net.onnx")
    found = load_file(tmp_path / "out.safetensors")
    assert [found[f"{n}.weight"].item() for n in names] == list(range(73))
    assert [found[f"{n}.bias"].item() for n in names] == [-i for i in range(73)]
    graph.node.pop()
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(DataCorrupt, match="72 convolutions, NanoDet-m 73"):
        convert_coco.nanodet(Folder(tmp_path), tmp_path / "out.safetensors", "net.onnx")
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataCorrupt, match="not a whole ONNX file"):
        convert_coco.nanodet(Folder(tmp_path), tmp_path / "out.safetensors", "net.onnx")


def test_calibration_images_are_every_fourth():
    rows = splits()["coco/first128_calib"]["rows"]
    assert rows == list(range(3, 128, 4))
    assert len(set(splits()["coco/first128"]["ids"])) == 128
    assert splits()["coco/first128"]["ids"] == sorted(splits()["coco/first128"]["ids"])
