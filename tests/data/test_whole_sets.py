"""The layout that docs/whole-sets.md draws, in miniature: every set is found and read by name."""

import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from quantbench.claims.catalog import read_claims
from quantbench.data import images, manifest, text
from quantbench.data.text import questions_file
from quantbench.errors import DataCorrupt, DataMissing
from quantbench.evidence.verdict import Outcome
from quantbench.optimization.training import Schedule, train
from quantbench.report.bench import Bench
from quantbench.runs.lab import Lab
from quantbench.system.digests import file_digest
from quantbench.tasks import spans
from quantbench.tasks.detection import coco
from quantbench.tasks.images import _images, training
from quantbench.tasks.segmentation import _masked
from tests.docs.pages import DOCS, blocks

QUESTIONS = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "ada was born in arden",
                    "qas": [
                        {
                            "id": "1",
                            "question": "where",
                            "answers": [{"text": "arden", "answer_start": 16}],
                        }
                    ],
                }
            ],
        }
    ]
}


def drawn():
    """The paths that the page lays out."""
    texts = [b.text for b in blocks(DOCS / "whole-sets.md") if b.text.startswith("imagenet/")]
    (layout,) = texts
    return layout.split()


def picture(shade, kind="JPEG", *, mask=False):
    buffer = io.BytesIO()
    shape = (300, 280) if mask else (300, 280, 3)
    Image.fromarray(np.full(shape, shade, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def content(name):
    """A small file of the kind that a path names."""
    if name.endswith(".json"):
        return json.dumps(QUESTIONS if "text/" in name else boxes(name)).encode()
    if name.endswith(".txt"):
        return b"2007_000033\n"
    return picture(3, "PNG", mask=True) if name.endswith(".png") else picture(90)


def boxes(name):
    file = "000000000139.jpg" if "val" in name else "000000000009.jpg"
    image = {"id": 7, "file_name": file, "height": 300, "width": 280}
    box = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200}
    return {
        "images": [image],
        "annotations": [{**box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "person"}],
    }


@pytest.fixture
def laid_out(root):
    """All of the layout, with the 1,000 class folders that ImageNet has."""
    for name in drawn():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name))
    for part in ("train", "val"):
        for i in range(1, 1000):
            (root / "imagenet" / part / f"n{90000000 + i}").mkdir()
    return root


@pytest.fixture(autouse=True)
def fresh():
    """What is kept in memory by name is that of one test."""
    kept = (coco.read, questions_file, _images, _masked)
    for cache in kept:
        cache.cache_clear()
    yield
    for cache in kept:
        cache.cache_clear()


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("name", ["imagenet/val", "imagenet/train", "imagenet/val_342_299"])
def test_imagenet_is_a_folder_a_class(name):
    found = images.images(name)
    side = 299 if name.endswith("299") else 224
    assert found.x.shape == (1, side, side, 3)
    assert found.y.tolist() == [0]
    assert abs(int(found.x.mean()) - 90) <= 1


def test_four_images_of_a_class_are_what_calibration_reads(laid_out):
    first = laid_out / "imagenet" / "train" / "n01440764"
    for i in range(6):
        (first / f"n01440764_{20000 + i}.JPEG").write_bytes(picture(10 * i))
    assert len(images.images("imagenet/train").y) == 4


def test_training_reads_every_image_of_imagenet(laid_out):
    """What ``train_data = "imagenet/train-whole"`` of the method apot trains on, step by step."""
    classes = sorted((laid_out / "imagenet" / "train").iterdir())
    for folder in classes[:2]:
        for i in range(6):
            (folder / f"{folder.name}_{20000 + i}.JPEG").write_bytes(picture(10 * i))
    data = training("torchvision/resnet18", "imagenet/train-whole")
    assert sorted(data.y.tolist()) == sorted([0] * 7 + [1] * 6)
    assert len(training("torchvision/resnet18", "imagenet/train-whole", 4).y) == 4
    model = torch.nn.Sequential(torch.nn.AvgPool2d(224), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    rng = torch.Generator().manual_seed(0)
    assert data.batch(np.arange(5), rng).shape == (5, 3, 224, 224)
    groups = [{"params": list(model.parameters()), "lr": 0.1}]
    assert len(train(model, data, groups, Schedule(2, 4), rng).loss) == 2


def test_training_on_imagenet_says_what_is_missing(root):
    with pytest.raises(DataMissing, match="ln -s <your ILSVRC2012 train folder"):
        training("torchvision/resnet18", "imagenet/train-whole")
    assert not (root / "imagenet").exists()


def test_a_missing_class_folder_is_noticed(laid_out):
    (laid_out / "imagenet" / "val" / "n90000500").rmdir()
    with pytest.raises(DataCorrupt, match="999 class folders, not 1000"):
        images.images("imagenet/val")


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("part", ["train", "val"])
def test_voc_and_coco_are_their_own_folders(part):
    found = images.images(f"voc/{part}")
    assert (found.y[0, :300, :280] == 3).all()
    boxes = coco.read(f"coco/{part}2017")
    assert boxes.ids == [7]
    assert boxes.image(7).shape == (300, 280, 3)


def test_squad_is_read_from_the_publishers_file(laid_out, monkeypatch):
    (asked,) = spans.questions(questions_file("squad/train")[0])
    assert asked.answers == ("arden",)
    dev = laid_out / "text" / "squad_dev-v1.1.json.gz"
    dev.write_bytes(gzip.compress(json.dumps(QUESTIONS).encode()))
    with pytest.raises(DataCorrupt, match="not the published"):
        questions_file("squad/dev")
    name = text.SQUAD_FILES["squad/dev"]
    known = {**manifest.table(), name: replace(manifest.table()[name], sha256=file_digest(dev))}
    monkeypatch.setattr(manifest, "table", lambda: known)
    monkeypatch.setattr(images, "table", lambda: known)
    assert len(spans.questions(questions_file("squad/dev")[0])) == 1


# a claim of each set: the command without the data, and with all but the weights
CLAIMS = {
    "fp/imagenet/resnet18/fp/published": ("ln -s <your ILSVRC2012 val", "get_model('resnet18'"),
    "adaround/voc/deeplabv3-val/w8a8/here-val-t9-dfq": ("ln -s <your VOCdevkit", "deeplabv3"),
    "fp/coco/retinanet-coco/fp/published": ("ln -s <your COCO folder", "retinanet_resnet50_fpn"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_without_its_data_is_skipped_with_the_command(root, name):
    verdict = judged(root, name)
    assert verdict.outcome == Outcome.SKIP
    assert CLAIMS[name][0] in verdict.command


@pytest.mark.parametrize("name", CLAIMS)
def test_with_the_layout_nothing_but_weights_is_missing(laid_out, monkeypatch, name):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(laid_out / "hub"))
    verdict = judged(laid_out, name)
    assert verdict.outcome == Outcome.SKIP
    assert CLAIMS[name][1] in verdict.reason + verdict.command


def judged(root, name):
    (claim,) = (c for c in read_claims() if c.id == name)
    return Bench(Lab(root.parent / "runs"), _Silent()).judge(claim)


class _Silent:
    def claim(self, label):
        """Nothing is shown."""

    def line(self, row):
        """Nothing is shown."""
