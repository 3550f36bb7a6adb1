"""Mean average precision of detections, with a jackknife value for every image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from quantbench.tasks.detection.coco import CocoSet

# parts of an image set that are left out in turn; sets of fewer images are left out one by one
UNITS = 200


def average_precision(found: CocoSet, detections: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """COCO's mean average precision as the mean of one value per image, or per part of a large set.

    The metric is no mean over images. A part's value is the metric plus the centred change that
    leaving it out makes, times (parts - 1): the jackknife. The mean of the values is the metric
    itself, and their spread gives its standard error; a value may lie outside 0..1.

    Args:
        found: images and true boxes.
        detections: rows with ``image_id``, ``category_id``, ``bbox`` (left, top, width, height) and
            ``score``.

    Returns:
        (parts,) float64.

    """
    parts = np.array_split(np.arange(len(found.ids)), min(len(found.ids), UNITS))
    if not detections:
        return np.zeros(len(parts))
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports every step
        truth = COCO()
        truth.dataset = dict(found.content)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(d) for d in detections]), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        everything = evaluation.evalImgs
        whole = _precision(evaluation, everything, len(found.ids), ())
        without = np.array([_precision(evaluation, everything, len(found.ids), p) for p in parts])
    influence: np.ndarray = whole + (len(parts) - 1) * (without.mean() - without)
    return influence


def _precision(
    evaluation: Any, everything: Sequence[Any], images: int, left_out: Iterable[int]
) -> float:
    """Mean average precision without some images; classes that are then absent do not count."""
    skip = {int(i) for i in left_out}
    evaluation.evalImgs = [None if i % images in skip else e for i, e in enumerate(everything)]
    evaluation.accumulate()
    precision = evaluation.eval["precision"]
    known = precision > -1
    return float(precision[known].mean()) if known.any() else 0.0
