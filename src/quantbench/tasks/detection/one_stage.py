"""One-stage detectors, quantized whole, by COCO's mean average precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.errors import BadInput
from quantbench.tasks.detection import average_precision, boxes, coco

if TYPE_CHECKING:
    from torch import Tensor

    from quantbench.models.preprocess import Preprocess
    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs

MODELS = ("coco/nanodet-m-416",)

# as RangiLyu/nanodet evaluates
LEAST, OVERLAP, KEEP = 0.05, 0.6, 100

BATCH = 8  # images at a time


@dataclass(frozen=True)
class OneStage:
    """NanoDet-m: backbone, neck and heads are quantized; what follows has no weights.

    Units of the backbone and heads are its blocks. Its output is logits of many positions, not of
    one label, so reconstruction uses the plain squared error.
    """

    model: str
    eval_data: str
    metric: str = "map"

    def digests(self, calib: str) -> tuple[str, str, str]:
        """See :class:`quantbench.tasks.task.Task`."""
        evaluated = coco.read(self.eval_data).digest
        calibrated = coco.read(calib).digest if calib else ""
        coco.available()
        from quantbench.data.images import file
        from quantbench.models import catalog
        from quantbench.system.digests import file_digest

        weights = file(f"checkpoints/{catalog.spec(self.model).checkpoint}.safetensors")
        return file_digest(weights), calibrated, evaluated

    def network(self) -> Network:
        """The whole detector; see :class:`quantbench.tasks.task.Task`."""
        from quantbench.models import catalog, loading
        from quantbench.network.network import Network

        spec, model = catalog.spec(self.model), loading.pretrained(self.model)
        images = coco.read(self.eval_data)
        sample, _ = squares(images, images.ids[:2], spec.size, spec.preprocess)
        blocks = loading.block_names(model, spec)
        stages = loading.stages(model, blocks)
        return Network.of(model, sample, name=self.model, blocks=blocks, stages=stages)

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """``n`` images without replacement."""
        from quantbench.models import catalog

        spec, images = catalog.spec(self.model), coco.read(name)
        if not 0 < n <= len(images.ids):
            raise BadInput(f"{n} calibration images of {name}: it has {len(images.ids)}")
        chosen = np.random.default_rng(seed).permutation(len(images.ids))[:n]
        ids = [images.ids[i] for i in chosen]
        return (squares(images, ids, spec.size, spec.preprocess)[0],)

    def detections(self, model: Callable[..., Any]) -> list[dict[str, Any]]:
        """What the detector finds, as rows in COCO's format; a class is the n-th category."""
        import torch

        from quantbench.models import catalog, nanodet
        from quantbench.tasks.evaluate import device_of

        spec, images = catalog.spec(self.model), coco.read(self.eval_data)
        numbers = sorted(row["id"] for row in images.content["categories"])
        found: list[dict[str, Any]] = []
        for start in range(0, len(images.ids), BATCH):
            ids = images.ids[start : start + BATCH]
            inputs, placed = squares(images, ids, spec.size, spec.preprocess)
            with torch.inference_mode():
                maps = nanodet.levels(_maps(model(inputs.to(device_of(model))), spec.size).cpu())
            for i, (number, where) in enumerate(zip(ids, placed, strict=True)):
                scores, corners = boxes.decode([m[i] for m in maps], nanodet.STRIDES, len(numbers))
                box, score, label = boxes.suppress(
                    scores, corners, least=LEAST, overlap=OVERLAP, keep=KEEP
                )
                columns = (where.back(box).double(), label, score)
                found += [
                    coco.detection(number, place, numbers[k], s)
                    for place, k, s in zip(*(c.tolist() for c in columns), strict=True)
                ]
        return found

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Jackknife values whose mean is the mean average precision.

        See :func:`quantbench.tasks.detection.average_precision.average_precision`.
        """
        images = coco.read(self.eval_data)
        return average_precision.average_precision(images, self.detections(model))

    def gold(self) -> None:
        """Detection has no reference similarities."""


def squares(
    images: coco.CocoSet, ids: list[int], size: int, preprocess: Preprocess
) -> tuple[Tensor, list[boxes.Placed]]:
    """Network input (N, 3, size, size) of some images, and where each lies in its square."""
    pairs = [boxes.letterbox(images.image(number), size) for number in ids]
    return preprocess(np.stack([square for square, _ in pairs])), [where for _, where in pairs]


def _maps(out: Tensor, size: int) -> Tensor:
    """The canvas (N, C, S / 8, S / 8); integer programs give it flattened."""
    side = size // 8
    return out.reshape(len(out), -1, side, side)
