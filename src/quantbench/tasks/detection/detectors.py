"""Object detection as a task, by COCO's mean average precision.

Backbone and neck are quantized; the head stays in full precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.data import decoded
from quantbench.data.images import file
from quantbench.errors import BadInput
from quantbench.system.digests import file_digest
from quantbench.tasks.detection import average_precision, coco

if TYPE_CHECKING:
    from torch import Tensor

    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs
    from quantbench.tasks.task import Task


MODELS = (
    *("scenes/retinanet", "scenes/fasterrcnn"),
    *("coco/retinanet_resnet50_fpn", "coco/fasterrcnn_resnet50_fpn"),
)

BLOCKS = ("BasicBlock", "Bottleneck")

IN_MEMORY = 2**30  # bytes of calibration images


def detection(model: str, eval_data: str) -> Task:
    """The task of a detection claim.

    Raises:
        BadInput: no such detector.

    """
    from quantbench.tasks.detection import one_stage

    if model in one_stage.MODELS:
        return one_stage.OneStage(model, eval_data)
    if model not in MODELS:
        raise BadInput(f"detector {model!r}: choose {', '.join((*MODELS, *one_stage.MODELS))}")
    return Detection(model, eval_data)


def weights_digest(name: str) -> str:
    """Digest of a detector's weights, without building it; embedded ones need no torch for it.

    Raises:
        DataMissing: they are not here.

    """
    family, _, network = name.partition("/")
    if family == "coco":
        from quantbench.models.detectors import published_file

        return published_file(name)
    return file_digest(file(f"checkpoints/scenes_{network}.safetensors"))


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
        evaluated = coco.read(self.eval_data).digest
        calibrated = coco.read(calib).digest if calib else ""
        coco.available()
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
        """``n`` images without replacement, resized, normalized and on equal canvases."""
        images = coco.read(name)
        if not 0 < n <= len(images.ids):
            raise BadInput(f"{n} calibration images of {name}: it has {len(images.ids)}")
        chosen = np.random.default_rng(seed).permutation(len(images.ids))[:n]
        return (self._canvas(self.detector(), [images.ids[i] for i in chosen], images),)

    @staticmethod
    def _canvas(detector: Any, ids: Sequence[int], images: coco.CocoSet) -> Tensor:
        """(N, 3, S, S), zeros below and to the right; S is the largest side after resizing.

        Large ones lie in a file: 256 images of COCO take 5 GiB.
        """
        import torch

        side = -(-detector.transform.max_size // 32) * 32
        shape = (len(ids), 3, side, side)
        large = math.prod(shape) * 4 > IN_MEMORY
        if large:
            canvas = torch.from_numpy(decoded.scratch("canvas", shape, np.float32))
        else:
            canvas = torch.zeros(shape)
        with torch.no_grad():
            for i, number in enumerate(ids):
                x = detector.transform([_tensor(images.image(number))])[0].tensors
                canvas[i, :, : x.shape[2], : x.shape[3]] = x[0]
        return canvas

    def detections(self, model: Callable[..., Any]) -> list[dict[str, Any]]:
        """What the detector finds with ``model`` as backbone and neck, as rows in COCO's format."""
        import torch

        from quantbench.models.detectors import Split
        from quantbench.tasks.evaluate import device_of

        detector, images = self.detector(), coco.read(self.eval_data)
        detector.backbone = Split(model, detector.backbone)
        device = device_of(model)
        detector.to(device)
        found: list[dict[str, Any]] = []
        with torch.no_grad():
            for ids in _batches(images.ids, 1 if self.model.startswith("coco/") else 32):
                pictures = [_tensor(images.image(i)).to(device) for i in ids]
                for number, out in zip(ids, detector(pictures), strict=True):
                    found += _rows(number, {k: v.cpu().double().numpy() for k, v in out.items()})
        return found

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Jackknife values whose mean is the mean average precision.

        See :func:`quantbench.tasks.detection.average_precision.average_precision`.
        """
        images = coco.read(self.eval_data)
        return average_precision.average_precision(images, self.detections(model))

    def gold(self) -> None:
        """Detection has no reference similarities."""


def _rows(number: int, out: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Detections of one image in COCO's format."""
    columns = (out["boxes"], out["labels"], out["scores"])
    for corners, label, score in zip(*(c.tolist() for c in columns), strict=True):
        yield coco.detection(number, corners, int(label), score)


def _batches(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (ids[i : i + size] for i in range(0, len(ids), size))


def _tensor(image: np.ndarray) -> Tensor:
    """Float32 (3, H, W) in 0..1, as torchvision's detectors take it."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
