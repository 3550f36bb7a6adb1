"""Semantic segmentation as a task, by the mean intersection over union."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.data.masks import CLASSES, OUTSIDE, SIDE
from quantbench.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs


def segmentation(model: str, eval_data: str) -> Segmentation:
    """The task of a segmentation claim.

    Raises:
        BadInput: another network than the one that is part of the suite.

    """
    if model != "voc/deeplabv3-mobilenetv2":
        raise BadInput(f"segmentation network {model!r}: choose voc/deeplabv3-mobilenetv2")
    return Segmentation(model, eval_data)


@dataclass(frozen=True)
class Segmentation:
    """Classes of pixels, on canvases of 513 by 513 pixels.

    What is outside of an image is grey, which is 0 for the network, as DeepLab pads. It is not
    counted, nor are pixels without a class.
    """

    model: str
    eval_data: str
    metric: str = "miou"

    def digests(self, calib: str) -> tuple[str, str, str]:
        """Weights by the digest they were checked against; see :mod:`quantbench.tasks.task`."""
        evaluated = _masked(self.eval_data).digest
        calibrated = _masked(calib).digest if calib else ""
        from quantbench.data import images
        from quantbench.data.manifest import table
        from quantbench.models import catalog

        name = f"checkpoints/{catalog.spec(self.model).checkpoint}.safetensors"
        images.file(name)  # raises DataMissing when it is not here
        return table()[name].sha256, calibrated, evaluated

    def network(self) -> Network:
        """See :class:`quantbench.tasks.task.Task`."""
        from quantbench.models import catalog, loading
        from quantbench.network.network import Network

        spec, model = catalog.spec(self.model), loading.pretrained(self.model)
        sample = self._prepared(_masked(self.eval_data), np.arange(1))
        blocks = loading.block_names(model, spec)
        stages = loading.stages(model, blocks)
        return Network.of(model, sample, name=self.model, blocks=blocks, stages=stages)

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """``n`` images without replacement; masks are not looked at."""
        found = _masked(name)
        if not 0 < n <= len(found.x):
            raise BadInput(f"{n} calibration images of {name}: it has {len(found.x)}")
        return (self._prepared(found, np.random.default_rng(seed).permutation(len(found.x))[:n]),)

    def _prepared(self, found: Any, index: np.ndarray) -> Tensor:
        """Network input (n, 3, 513, 513), 0 outside of the images."""
        import torch

        from quantbench.models import catalog

        x = catalog.spec(self.model).preprocess(found.x[index])
        outside = torch.from_numpy(found.y[index] == OUTSIDE)
        return x.masked_fill(outside[:, None], 0.0)

    def classes(self, model: Callable[..., Any]) -> Iterator[np.ndarray]:
        """The class of every pixel (513, 513), image by image; of equal ones the first.

        Raises:
            BadInput: NaN or infinite outputs, or another number of them.

        """
        import torch

        from quantbench.system.determinism import exact_cudnn

        device: Any = "cpu"
        if isinstance(model, torch.nn.Module):
            device = next((p.device for p in model.parameters()), "cpu")
        found = _masked(self.eval_data)
        with torch.inference_mode(), exact_cudnn():
            for i in range(len(found.x)):
                x = self._prepared(found, np.arange(i, i + 1)).to(device)
                out = torch.as_tensor(model(x.contiguous(memory_format=torch.channels_last)))
                if out.numel() != CLASSES * SIDE * SIDE:
                    raise BadInput(f"{self.model}: an image gave {tuple(out.shape)} numbers")
                if not torch.isfinite(out).all():
                    raise BadInput(f"{self.model}: NaN or infinite outputs for image {i}")
                logits = out.float().cpu().reshape(CLASSES, SIDE, SIDE)
                yield logits.numpy().argmax(0)

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Counts of every image, float32 (N, 3 * 21); see :func:`counts`."""
        pairs = zip(self.classes(model), _masked(self.eval_data).y, strict=True)
        return np.stack([counts(found, true) for found, true in pairs])

    def gold(self) -> None:
        """Segmentation has no reference similarities."""


def counts(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """What an image adds to the confusion matrix, as far as the metric looks at it.

    Args:
        found: classes of pixels, of any shape.
        true: those that are right; others than 0 to 20 are not counted.

    Returns:
        float32 (63,): of each class the pixels that are found right, those that are found or true,
        and those that are true.

    """
    counted = true < CLASSES
    pairs = true[counted].astype(np.int64) * CLASSES + found[counted]
    confusion = np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    right, truth = np.diag(confusion), confusion.sum(1)
    return np.concatenate([right, confusion.sum(0) + truth - right, truth]).astype(np.float32)


@functools.lru_cache(maxsize=2)
def _masked(name: str) -> Any:
    """Images with masks of classes."""
    from quantbench.data import images

    found = images.images(name)
    if found.y.shape != found.x.shape[:3]:
        raise BadInput(
            f"{name} has no class for every pixel; choose voc/seg48, voc/val or coco/seg100"
        )
    return found
