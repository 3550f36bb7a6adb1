"""Image sets in COCO's format and their mean average precision."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from quantbench.data.dvc import ensure
from quantbench.data.procedural import scenes
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.evidence import estimates
from quantbench.evidence.result import Result
from quantbench.tasks.detection import average_precision, coco

pytest.importorskip(
    "pycocotools", reason="mean average precision needs pip install 'quantbench[detection]'"
)


@pytest.fixture(autouse=True)
def forget():
    coco.read.cache_clear()
    yield
    coco.read.cache_clear()


def made(count, seed=0):
    """Scenes as a set, and the true boxes as detections of certainty 1."""
    found = [scenes._scene(np.random.default_rng([seed, i])) for i in range(count)]
    content = scenes.coco(found)
    rows = [
        {
            "image_id": r["image_id"],
            "category_id": r["category_id"],
            "bbox": r["bbox"],
            "score": 1.0,
        }
        for r in content["annotations"]
    ]
    return coco.CocoSet("made", content, None, ""), rows


def test_truth_scores_one_and_nothing_zero():
    found, rows = made(10)
    assert average_precision.average_precision(found, rows) == pytest.approx(np.ones(10))
    assert not average_precision.average_precision(found, []).any()


def noisy(rows, seed):
    """Moved boxes, wrong classes, missing and invented ones."""
    rng = np.random.default_rng(seed)
    out = []
    for row in rows:
        if rng.random() < 0.2:
            continue
        box = [v + float(rng.normal(0, 2)) for v in row["bbox"]]
        label = row["category_id"] if rng.random() < 0.8 else 1 + int(rng.integers(5))
        out.append({**row, "bbox": box, "category_id": label, "score": float(rng.random())})
    return out


def test_the_mean_of_the_values_is_the_official_metric():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found, rows = made(30)
    given = noisy(rows, 1)
    truth = COCO()
    truth.dataset = found.content
    truth.createIndex()
    official = COCOeval(truth, truth.loadRes([dict(r) for r in given]), "bbox")
    official.evaluate()
    official.accumulate()
    official.summarize()
    assert 0.2 < official.stats[0] < 0.8
    assert average_precision.average_precision(found, given).mean() == pytest.approx(
        official.stats[0], rel=1e-9
    )


def test_the_spread_of_the_values_is_the_error_of_the_metric():
    """Over fresh sets, the metric varies as much as the jackknife says of a single set."""
    metrics, errors = [], []
    for seed in range(14):
        found, rows = made(16, seed)
        values = average_precision.average_precision(found, noisy(rows, seed))
        metrics.append(values.mean())
        errors.append(values.std(ddof=1) / len(values) ** 0.5)
    # 14 sets know their standard deviation to 20 %; the jackknife of a mean of precisions errs on
    # the safe side
    assert 0.6 < np.mean(errors) / np.std(metrics, ddof=1) < 1.8


def test_large_sets_are_left_out_in_parts(monkeypatch):
    found, rows = made(30)
    alone = average_precision.average_precision(found, noisy(rows, 1))
    monkeypatch.setattr(average_precision, "UNITS", 7)
    parts = average_precision.average_precision(found, noisy(rows, 1))
    assert (len(alone), len(parts)) == (30, 7)
    assert parts.mean() == pytest.approx(alone.mean())


def test_values_outside_0_to_1_are_judged_like_any_others():
    found, rows = made(40)
    fp, good, bad = (
        average_precision.average_precision(found, noisy(rows[:n], 1)) for n in (75, 60, 20)
    )
    assert min(v.min() for v in (fp, good, bad)) < 0
    full = Result.of(fp, fp, "d", metric="map")
    # kept as float32
    assert estimates.fp_accuracy({0: full}).value == pytest.approx(100 * fp.mean(), rel=1e-5)
    ours, rival = ({0: Result.of(fp, v, "d", metric="map")} for v in (good, bad))
    assert estimates.drop(rival).value == pytest.approx(100 * (fp - bad).mean(), rel=1e-4)
    assert estimates.accuracy(ours).low < 100 * good.mean() < estimates.accuracy(ours).high
    assert estimates.advantage(ours, rival).low > 0


@pytest.mark.parametrize("split", ["calib", "test"])
def test_stored_scenes_are_those_that_the_script_renders(split):
    assert ensure("embedded") == []
    stored, (seed, count) = coco.read(f"scenes/{split}"), scenes.SPLITS[split]
    few = [scenes._scene(np.random.default_rng([seed, i])) for i in range(8)]
    made_of_few = scenes.coco(few)
    assert len(stored.ids) == count
    assert stored.content["categories"] == made_of_few["categories"]
    assert (
        stored.content["annotations"][: len(made_of_few["annotations"])]
        == made_of_few["annotations"]
    )
    # another machine's sine may tip the rounding of a pixel, nothing more
    for i, scene in enumerate(few):
        assert (stored.image(i) != scene.image).mean() < 1e-3


def folder(root, content):
    (root / "coco" / "annotations").mkdir(parents=True)
    (root / "coco" / "val2017").mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "coco" / "annotations" / "instances_val2017.json").write_text(text)
    return root / "coco" / "val2017"


def test_a_coco_folder_is_read(root):
    found = scenes.coco([scenes._scene(np.random.default_rng(0))])
    found["images"][0]["file_name"] = "one.png"
    images = folder(root, found)
    picture = np.full((4, 6, 3), 7, np.uint8)
    Image.fromarray(picture).save(images / "one.png")
    read = coco.read("coco/val2017")
    assert read.ids == [0]
    assert np.array_equal(read.image(0), picture)
    (images / "two.png").write_bytes(b"x")
    coco.read.cache_clear()
    assert coco.read("coco/val2017").digest != read.digest
    os.truncate(images / "one.png", 20)
    with pytest.raises(DataCorrupt, match=r"one\.png"):
        read.image(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "no JSON"),
        ("[]", "no JSON"),
        ("{}", "lack annotations, categories, images"),
        (None, "name no image"),
    ],
)
def test_what_is_no_coco_file_is_refused(root, content, message):
    folder(
        root, {"images": [], "annotations": [], "categories": []} if content is None else content
    )
    with pytest.raises(DataCorrupt, match=message):
        coco.read("coco/val2017")


@pytest.mark.usefixtures("root")
def test_a_set_that_is_not_here_says_where_to_put_it():
    with pytest.raises(DataMissing, match="coco/val2017"):
        coco.read("coco/val2017")
    with pytest.raises(BadInput, match="choose coco/val2017"):
        coco.read("coco/val2018")
