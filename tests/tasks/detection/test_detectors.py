"""Detection as a task: what is quantized, what stays, and that nothing else changes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from quantbench.data.procedural import scenes
from quantbench.errors import BadInput, DataMissing, Unsupported
from quantbench.integer.lowering.lower import executable
from quantbench.models import detectors as zoo
from quantbench.optimization.units import units
from quantbench.quantization.method import quantize
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.tasks.detection import coco, detectors
from quantbench.tasks.detection.detectors import Detection
from quantbench.tasks.registry import task
from quantbench.tasks.registry import task as any_task

SCHEME = Scheme(Grid(4, symmetric=False, per_channel=True))


class Pictures(coco.CocoSet):
    """A set in memory."""

    def image(self, number):
        return self.folder[number]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Six scenes, and detectors before training, without the shift that keeps them silent."""
    found = [scenes._scene(np.random.default_rng([5, i])) for i in range(6)]
    pictures = Pictures("made", scenes.coco(found), [s.image for s in found], "digest")

    def load(name):
        model = zoo.untrained(name)
        if "retinanet" in name:
            nn.init.zeros_(model.head.classification_head.cls_logits.bias)
        return model

    monkeypatch.setattr(coco, "read", lambda _: pictures)
    monkeypatch.setattr(zoo, "pretrained", load)
    monkeypatch.setattr(detectors, "weights_digest", lambda name: f"weights of {name}")
    return pictures


@pytest.mark.parametrize("name", ["scenes/retinanet", "scenes/fasterrcnn"])
def test_the_split_detector_is_the_detector(name, here):
    where = task(name, "made")
    found = where.detections(where.network().model)
    detector = zoo.pretrained(name)
    with torch.no_grad():
        whole = detector([torch.from_numpy(here.image(i)).permute(2, 0, 1) / 255 for i in here.ids])
    assert sum(len(out["boxes"]) for out in whole) == len(found) > 0
    for number, out in zip(here.ids, whole, strict=True):
        rows = [r for r in found if r["image_id"] == number]
        # float32 with batch norm folded and without
        assert [r["score"] for r in rows] == pytest.approx(out["scores"].tolist(), rel=1e-3)
        assert {"image_id", "category_id", "bbox", "score"} == rows[0].keys()


@pytest.mark.parametrize("name", ["scenes/retinanet", "scenes/fasterrcnn"])
def test_backbone_is_cut_into_blocks_and_neck_into_layers_and_the_head_is_left_alone(name):
    net = task(name, "made").network()
    q = quantize(make("nearest"), net, net.sample, SCHEME)
    found = units(q, "block")
    blocks = [u.stop for u in found if len(u.layers) > 1]
    assert blocks == [f"backbone.body.layer{i}.0" for i in (1, 2, 3)]
    assert [u.stop for u in found if len(u.layers) == 1][1:] == [
        f"backbone.fpn.{part}_blocks.{i}.0" for i in (1, 0) for part in ("inner", "layer")
    ]
    assert len(net.batch_norm) == 10
    head = {k for k in zoo.untrained(name).state_dict() if not k.startswith("backbone.")}
    assert head
    assert not head & set(net.model.state_dict())


def test_reconstruction_uses_the_squared_error_and_says_why():
    net = task("scenes/retinanet", "made").network()
    with pytest.raises(Unsupported, match="choose loss='mse'"):
        quantize(make("brecq", {"iterations": 2}), net, net.sample, SCHEME)
    q = quantize(make("brecq", {"iterations": 2, "loss": "mse"}), net, net.sample, SCHEME)
    assert task("scenes/retinanet", "made").scores(executable(q)).shape == (6,)


def test_calibration_images_are_drawn_once_and_look_as_the_detector_sees_them(here, monkeypatch):
    where = task("scenes/retinanet", "made")
    (x,) = where.calibration("made", 4, 0)
    assert x.shape == (4, 3, 96, 96)
    assert torch.equal(where.calibration("made", 4, 0)[0], x)
    monkeypatch.setattr(detectors, "IN_MEMORY", 0)
    assert torch.equal(where.calibration("made", 4, 0)[0], x)  # in a file
    assert len({row.numpy().tobytes() for row in x}) == 4
    pixels = {image.tobytes() for image in here.folder}
    back = ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous()
    assert all(image.numpy().tobytes() in pixels for image in back)
    with pytest.raises(BadInput, match="it has 6"):
        where.calibration("made", 7, 0)


def test_full_size_detectors_are_taken_apart_alike():
    detector = zoo.untrained("coco/retinanet_resnet50_fpn")
    features = zoo.Features(detector)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = detector.backbone(x)
        again = zoo.Split(features, detector.backbone)(x)
    assert list(maps) == list(again)
    assert all(torch.equal(maps[k], again[k]) for k in maps)
    blocks = [n for n, m in features.named_modules() if type(m).__name__ == "Bottleneck"]
    assert len(blocks) == 16
    assert {m.eps for m in detector.modules() if isinstance(m, nn.BatchNorm2d)} == {0.0}


def test_names_and_what_is_missing(monkeypatch, tmp_path):
    assert any_task("scenes/retinanet", "scenes/test") == Detection(
        "scenes/retinanet", "scenes/test"
    )
    with pytest.raises(BadInput, match="choose scenes/retinanet"):
        task("scenes/yolo", "scenes/test")
    where = task("coco/fasterrcnn_resnet50_fpn", "coco/val2017")
    assert where.digests("")[0] == "weights of coco/fasterrcnn_resnet50_fpn"
    monkeypatch.undo()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(DataMissing, match="coco/fasterrcnn_resnet50_fpn") as missing:
        zoo.pretrained("coco/fasterrcnn_resnet50_fpn")
    assert "get_model('fasterrcnn_resnet50_fpn', weights='COCO_V1')" in missing.value.command
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setattr(coco.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataMissing, match="detection"):
        coco.available()
