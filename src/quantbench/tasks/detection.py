"""Object detection as a task: backbone and neck are quantized, the head stays in full precision; COCO's mAP."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.data import coco, decoded
from quantbench.errors import BadInput
from quantbench.tasks import average_precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs
    from quantbench.tasks.task import Task


MODELS = (
    *("scenes/retinanet", "scenes/fasterrcnn"),
    *("coco/retinanet_resnet50_fpn", "coco/fasterrcnn_resnet50_fpn"),
)

BLOCKS = ("BasicBlock", "Bottleneck")

IN_MEMORY = 2**30  # bytes of calibration images


def task(model: str, eval_data: str) -> Task:
    """The task of a detection claim.

    Raises:
        BadInput: no such detector.

    """
    if model not in MODELS:
        raise BadInput(f"detector {model!r}: choose {', '.join(MODELS)}")
    return Detection(model, eval_data)


@dataclass(frozen=True)
class Detection:
    """A detector of torchvision, or a small one of the same kind.

    What is quantized is backbone and neck: residual blocks are its blocks, the layers of the neck
    are on their own. Its output is the feature maps, not class scores, so reconstruction uses the
    plain squared error.
    """

    model: str
    eval_data: str
    metric: str = "map"

    def digests(self, calib: str) -> tuple[str, str, str]:
        """See :class:`quantbench.tasks.task.Task`."""
        evaluated, calibrated = (
            coco.read(self.eval_data).digest,
            coco.read(calib).digest if calib else "",
        )
        coco.available()
        from quantbench.models.detectors import weights_digest

        return weights_digest(self.model), calibrated, evaluated

    def detector(self) -> Any:
        """The whole detector in evaluation mode."""
        from quantbench.models.detectors import pretrained

        return pretrained(self.model)

    def network(self) -> Network:
        """Backbone and neck; see :class:`quantbench.tasks.task.Task`."""
        from quantbench.models.detectors import Features
        from quantbench.models.loading import stages
        from quantbench.network.network import Network

        detector, images = self.detector(), coco.read(self.eval_data)
        features = Features(detector)
        blocks = [n for n, m in features.named_modules() if type(m).__name__ in BLOCKS]
        sample = self._canvas(detector, images.ids[:2], images)
        return Network.of(
            features, sample, name=self.model, blocks=blocks, stages=stages(features, blocks)
        )

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """``n`` images drawn without replacement, resized and normalized as the detector does, on equal canvases."""
        images = coco.read(name)
        if not 0 < n <= len(images.ids):
            raise BadInput(f"{n} calibration images of {name}: it has {len(images.ids)}")
        chosen = np.random.default_rng(seed).permutation(len(images.ids))[:n]
        return (self._canvas(self.detector(), [images.ids[i] for i in chosen], images),)

    @staticmethod
    def _canvas(detector: Any, ids: Sequence[int], images: coco.CocoSet) -> Tensor:
        """(N, 3, S, S) with zeros below and to the right; S is the largest side that the detector resizes to.

        Large ones lie in a file: 256 images of COCO take 5 GiB.
        """
        import torch

        side = -(-detector.transform.max_size // 32) * 32
        shape = (len(ids), 3, side, side)
        large = math.prod(shape) * 4 > IN_MEMORY
        canvas = (
            torch.from_numpy(decoded.scratch("canvas", shape, np.float32))
            if large
            else torch.zeros(shape)
        )
        with torch.no_grad():
            for i, number in enumerate(ids):
                x = detector.transform([_tensor(images.image(number))])[0].tensors
                canvas[i, :, : x.shape[2], : x.shape[3]] = x[0]
        return canvas

    def detections(self, model: Callable[..., Any]) -> list[dict[str, Any]]:
        """What the detector finds with ``model`` in place of its backbone and neck, as rows in COCO's format."""
        import torch

        from quantbench.models.detectors import Split

        detector, images = self.detector(), coco.read(self.eval_data)
        detector.backbone = Split(model, detector.backbone)
        device = _device(model)
        detector.to(device)
        found: list[dict[str, Any]] = []
        with torch.no_grad():
            for ids in _batches(images.ids, 1 if self.model.startswith("coco/") else 32):
                for number, out in zip(
                    ids, detector([_tensor(images.image(i)).to(device) for i in ids]), strict=True
                ):
                    found += _rows(number, {k: v.cpu().double().numpy() for k, v in out.items()})
        return found

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Jackknife values whose mean is the mean average precision, see :func:`quantbench.tasks.average_precision.average_precision`."""
        return average_precision.average_precision(
            coco.read(self.eval_data), self.detections(model)
        )

    def gold(self) -> None:
        """Detection has no reference similarities."""


def _rows(number: int, out: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Detections of one image in COCO's format."""
    for (left, top, right, bottom), label, score in zip(
        out["boxes"], out["labels"], out["scores"], strict=True
    ):
        box = [float(left), float(top), float(right - left), float(bottom - top)]
        yield {"image_id": number, "category_id": int(label), "bbox": box, "score": float(score)}


def _batches(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))


def _tensor(image: np.ndarray) -> Tensor:
    """Float32 (3, H, W) in 0..1, as torchvision's detectors take it."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def _device(model: nn.Module | Callable[..., Any]) -> Any:
    from torch import nn

    return (
        next((p.device for p in model.parameters()), "cpu")
        if isinstance(model, nn.Module)
        else "cpu"
    )
