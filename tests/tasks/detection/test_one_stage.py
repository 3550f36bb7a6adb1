"""A one-stage detector as a task: quantized whole, and measured by COCO's definition."""

from __future__ import annotations

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from quantbench.data.image_sets import splits
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.integer import store
from quantbench.integer.backends.base import backend
from quantbench.integer.lowering.lower import executable, lower
from quantbench.models import catalog, loading, nanodet
from quantbench.quantization.method import quantize
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.tasks.detection import boxes, coco
from quantbench.tasks.detection.one_stage import OneStage
from quantbench.tasks.registry import task

NAME, SIZE = "coco/nanodet-m-416", 64

INTEGER = Scheme(
    Grid(8, per_channel=True, range="minmax"),
    Grid(8, symmetric=False, range="minmax"),
    placement="integer",
)


class Pictures(coco.CocoSet):
    """A set in memory."""

    def image(self, number):
        return self.folder[number]


@pytest.fixture
def here(monkeypatch):
    """Five images of several shapes, three categories, and a small detector before training."""
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (64, 64), (90, 30), (128, 100), (20, 64)]
    images = {n: rng.integers(0, 256, (*s, 3)).astype(np.uint8) for n, s in enumerate(shapes, 7)}
    rows = [{"id": n, "file_name": str(n)} for n in images]
    box = {"category_id": 40, "bbox": [2, 2, 15, 15], "area": 225, "iscrowd": 0}
    found = [{"id": n, "image_id": n, **box} for n in images]
    categories = [{"id": c, "name": str(c)} for c in (40, 3, 90)]
    content = {"images": rows, "annotations": found, "categories": categories}
    pictures = Pictures("made", content, images, "digest")
    monkeypatch.setattr(coco, "read", lambda _: pictures)
    arguments = (("size", SIZE), ("classes", 3))
    small = replace(catalog.spec(NAME), size=SIZE, arguments=arguments)
    monkeypatch.setitem(catalog.MODELS, NAME, small)
    model = loading.pretrained(NAME, weights=False, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(loading, "pretrained", lambda _: model)
    return pictures


def test_boxes_are_in_the_image_and_classes_are_the_sorted_categories(here):
    where = task(NAME, "made")
    assert where == OneStage(NAME, "made")
    rows = where.detections(where.network().model)
    assert len(rows) > 20
    assert {row["category_id"] for row in rows} == {3, 40, 90}
    for row in rows:
        h, w = here.folder[row["image_id"]].shape[:2]
        left, top, width, height = row["bbox"]
        assert min(left, top) >= 0
        assert left + width <= w + 1e-3
        assert top + height <= h + 1e-3
    scores = where.scores(where.network().model)
    assert scores.shape == (5,)


def test_detections_of_one_image_are_those_of_its_own_square(here):
    where = task(NAME, "made")
    model = where.network().model
    rows = [r for r in where.detections(model) if r["image_id"] == 9]
    square, placed = boxes.letterbox(here.folder[9], SIZE)
    with torch.no_grad():
        maps = nanodet.levels(model(catalog.spec(NAME).preprocess(square[None])))
    scores, corners = boxes.decode([m[0] for m in maps], nanodet.STRIDES, 3)
    box, score, label = boxes.suppress(scores, corners, least=0.05, overlap=0.6, keep=100)
    assert [r["score"] for r in rows] == pytest.approx(score.tolist(), rel=1e-5)
    assert [r["category_id"] for r in rows] == [(3, 40, 90)[k] for k in label.tolist()]
    left, top = placed.back(box)[:, :2].T.tolist()
    assert [r["bbox"][0] for r in rows] == pytest.approx(left, abs=1e-3)
    assert [r["bbox"][1] for r in rows] == pytest.approx(top, abs=1e-3)


@pytest.mark.usefixtures("here")
def test_calibration_is_a_draw_without_replacement():
    where = task(NAME, "made")
    (x,) = where.calibration("made", 5, 1)
    assert x.shape == (5, 3, SIZE, SIZE)
    assert len({row.numpy().tobytes() for row in x}) == 5
    assert torch.equal(where.calibration("made", 3, 1)[0], x[:3])
    with pytest.raises(BadInput, match="6 calibration images of made: it has 5"):
        where.calibration("made", 6, 0)


@pytest.mark.usefixtures("here")
def test_units_are_those_of_the_backbone_and_the_heads():
    net = task(NAME, "made").network()
    assert len(net.blocks) == 16 + 3
    assert [len(stage) for stage in net.stages] == [4, 8, 4, 3]
    q = quantize(make("brecq", {"iterations": 2, "loss": "mse"}), net, net.sample, Scheme(Grid(4)))
    assert len(task(NAME, "made").scores(executable(q))) == 5


@pytest.mark.usefixtures("here")
def test_the_whole_detector_is_one_integer_program(tmp_path):
    where = task(NAME, "made")
    net = where.network()
    q = quantize(make("nearest"), net, where.calibration("made", 3, 0), INTEGER)
    program = lower(q)
    run = executable(q)
    rows = where.detections(run)
    assert rows
    flat = run(net.sample[0])
    assert flat.dim() == 4
    flat = flat.flatten(1)
    native = backend("native")
    if native.available() is None:
        got = torch.from_numpy(native.compile(program)(net.sample[0].numpy()))
        assert torch.equal(got, flat)
    store.save(program, tmp_path / "detector")
    again = native.compile(store.load(tmp_path / "detector"))(net.sample[0].numpy())
    assert torch.equal(torch.from_numpy(again), flat)


def first():
    try:
        return [coco.read(f"coco/first128{part}") for part in ("", "_calib", "_eval")]
    except DataMissing as e:
        pytest.skip(str(e))


def test_calibration_images_are_not_evaluated():
    whole, calib, rest = first()
    assert (len(whole.ids), len(calib.ids), len(rest.ids)) == (128, 32, 96)
    assert not set(calib.ids) & set(rest.ids)
    assert sorted(calib.ids + rest.ids) == whole.ids == splits()["coco/first128"]["ids"]
    assert calib.ids == whole.ids[3::4]
    for part in (calib, rest):
        assert {a["image_id"] for a in part.content["annotations"]} <= set(part.ids)
    boxes_of = [len(s.content["annotations"]) for s in (whole, calib, rest)]
    assert boxes_of[0] == sum(boxes_of[1:]) == 898
    assert len({s.digest for s in (whole, calib, rest)}) == 3
    assert max(whole.image(139).shape) == 416


def test_a_member_that_is_missing_is_said(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w"):
        pass
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [], "categories": []}
    with pytest.raises(DataCorrupt, match=r"image .* cannot be read: .*a\.tar.*1\.jpg"):
        coco.CocoSet("made", content, coco.TarFolder(path), "").image(1)
    path.write_bytes(b"no archive")
    coco._members.cache_clear()
    with pytest.raises(DataCorrupt, match="cannot be read"):
        coco.CocoSet("made", content, coco.TarFolder(path), "").image(1)
