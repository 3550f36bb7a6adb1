"""Segmentation: counts against a confusion matrix built pixel by pixel, and what is not counted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from quantbench.data.images import Images
from quantbench.data.masks import CLASSES, OUTSIDE, SIDE, VOID
from quantbench.errors import BadInput, DataMissing
from quantbench.evidence.bootstrap import mean_iou
from quantbench.tasks import segmentation
from quantbench.tasks.registry import task
from quantbench.tasks.segmentation import Segmentation, counts

NAME = "voc/deeplabv3-mobilenetv2"


def by_pixel(found, true):
    """Mean IoU in points, from sets of pixels, class by class."""
    each = []
    for c in range(CLASSES):
        seen = true < CLASSES
        a, b = seen & (found == c), seen & (true == c)
        if b.any():
            each.append((a & b).sum() / (a | b).sum())
    return 100 * np.mean(each) if each else 0.0


PIXELS = hnp.arrays(np.uint8, (3, 40), elements=st.integers(0, 5))
LABELS = hnp.arrays(np.uint8, (3, 40), elements=st.sampled_from([0, 1, 2, 3, 20, VOID, OUTSIDE]))


@settings(max_examples=60)
@given(PIXELS, LABELS)
def test_counts_of_images_add_up_to_the_metric_of_all_pixels(found, true):
    rows = np.stack([counts(f, t) for f, t in zip(found, true, strict=True)])
    assert rows.dtype == np.float32
    assert float(mean_iou(rows)) == pytest.approx(by_pixel(found, true))
    for row, f, t in zip(rows, found, true, strict=True):
        assert float(mean_iou(row[None])) == pytest.approx(by_pixel(f, t))


def test_void_and_what_is_outside_change_nothing():
    rng = np.random.default_rng(0)
    found, true = (rng.integers(0, CLASSES, 500) for _ in range(2))
    more = np.concatenate([true, np.full(99, VOID), np.full(99, OUTSIDE)])
    anything = np.concatenate([found, rng.integers(0, CLASSES, 198)])
    assert np.array_equal(counts(found, true), counts(anything, more))


class Colour(nn.Module):
    """Class 2 where red, 1 where grey is exactly 0, else 0."""

    def forward(self, x):
        out = torch.zeros(len(x), CLASSES, SIDE, SIDE)
        out[:, 1] = (x == 0).all(1).float()
        out[:, 2] = 2 * (x[:, 0] > 0.5).float()
        return out


@pytest.fixture
def pictures(monkeypatch):
    x = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    y = np.full((2, SIDE, SIDE), OUTSIDE, np.uint8)
    y[:, :40, :50] = 0
    x[0, :10, :50, 0], y[0, :10, :50] = 255, 2
    y[1, 0, 0] = VOID
    made = Images("made", x, y, "digest")
    monkeypatch.setattr(segmentation, "_masked", lambda _: made)
    return made


def test_a_network_is_scored_on_what_is_inside(pictures):
    where = Segmentation(NAME, "made")
    scores = where.scores(Colour())
    assert float(mean_iou(scores)) == 100.0
    assert scores[0, :3].tolist() == [1500, 0, 500]
    assert scores[1, :3].tolist() == [1999, 0, 0]
    # flat outputs, as integer programs give them, are the same
    flat = where.scores(lambda x: Colour()(x).flatten(1))
    assert np.array_equal(flat, scores)
    # what is outside of an image is grey, which is 0
    outside = next(where.classes(Colour()))[pictures.y[0] == OUTSIDE]
    assert set(outside.tolist()) == {1}


@pytest.mark.usefixtures("pictures")
def test_outputs_that_are_no_logits_are_refused():
    where = Segmentation(NAME, "made")
    with pytest.raises(BadInput, match="an image gave"):
        where.scores(lambda x: x)
    with pytest.raises(BadInput, match="NaN or infinite outputs for image 0"):
        where.scores(lambda x: Colour()(x) / 0)


@pytest.mark.usefixtures("pictures")
def test_calibration_images_are_drawn_without_their_masks():
    where = Segmentation(NAME, "made")
    (x,) = where.calibration("made", 2, 5)
    assert x.shape == (2, 3, SIDE, SIDE)
    assert torch.equal(x[0], where.calibration("made", 1, 5)[0][0])
    assert (x[:, :, 40:] == 0).all()
    assert (x[:, 1, :40, :50] == -1).all()
    with pytest.raises(BadInput, match="3 calibration images of made: it has 2"):
        where.calibration("made", 3, 0)


def test_other_networks_and_sets_are_refused():
    with pytest.raises(BadInput, match="choose voc/deeplabv3-mobilenetv2"):
        task("voc/fcn", "voc/seg48")
    with pytest.raises(BadInput, match="no class for every pixel"):
        segmentation._masked("shapes/calib")


def test_the_network_at_hand_is_measured():
    """The first image of VOC; the whole of the set is a claim."""
    where = task(NAME, "voc/seg48")
    try:
        checkpoint, calibrated, evaluated = where.digests("coco/seg100")
    except DataMissing as missing:
        pytest.skip(str(missing))
    assert len({checkpoint, calibrated, evaluated}) == 3
    net = where.network()
    assert len(net.layers) == 55
    assert len(net.blocks) == 17
    true = segmentation._masked("voc/seg48").y[0]
    row = counts(next(where.classes(net.model)), true)
    right, _, truth = row.reshape(3, CLASSES)
    assert right.sum() / truth.sum() > 0.9
