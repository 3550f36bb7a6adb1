"""Image classification, top-1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from quantbench.models.preprocess import Preprocess
    from quantbench.network.network import Network
    from quantbench.optimization.training import Examples
    from quantbench.system.tensors import Inputs


@dataclass(frozen=True)
class ImageTask:
    """Image classification, top-1."""

    model: str
    eval_data: str
    metric: str = "top1"

    def digests(self, calib: str) -> tuple[str, str, str]:
        """Weights by the digest they were checked against; see :mod:`quantbench.tasks.task`."""
        # first: missing images are found without importing anything heavy
        evaluated = _images(self.eval_data).digest
        calibrated = _images(calib).digest if calib else ""
        from quantbench.data import images
        from quantbench.data.manifest import table
        from quantbench.models import catalog

        spec = catalog.spec(self.model)
        name = f"checkpoints/{spec.checkpoint}.safetensors"
        for entry in (table().get(name), table().get(f"embedded/{name}")):
            if entry is not None:
                images.file(name)  # raises DataMissing when it is not here
                return entry.sha256, calibrated, evaluated
        from quantbench.models import loading

        return loading.digest(spec), calibrated, evaluated

    def network(self) -> Network:
        """See :class:`quantbench.tasks.task.Task`."""
        from quantbench.models import catalog, loading
        from quantbench.models.loading import block_names, stages
        from quantbench.network.network import Network

        spec, model = catalog.spec(self.model), loading.pretrained(self.model)
        sample = spec.preprocess(_images(self.eval_data).x[:2])
        blocks = block_names(model, spec)
        return Network.of(
            model, sample, name=self.model, blocks=blocks, stages=stages(model, blocks)
        )

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """Class-balanced draw; the same images whatever the method."""
        from quantbench.models import catalog

        found = _images(name)
        index = balanced_subset(found.y, n, seed)
        return (catalog.spec(self.model).preprocess(found.x[index]),)

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Whether each image's label comes first."""
        from quantbench.models import catalog
        from quantbench.tasks.evaluate import correct_bits, logits

        found = _images(self.eval_data)
        out = logits(model, found.x, catalog.spec(self.model).preprocess, name=self.model)
        return correct_bits(out, found.y)

    def gold(self) -> None:
        """Classification has no reference similarities."""


@functools.lru_cache(maxsize=4)
def _images(name: str) -> Any:
    """Decoded image sets stay in memory while neighbouring cells use them."""
    from quantbench.data import images

    return images.images(name)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with labels, and what turns their pixels into a network's input.

    Attributes:
        x: uint8 (N, H, W, 3).
        y: labels (N,).
        preprocess: pixels to network input.

    """

    x: np.ndarray
    y: np.ndarray
    preprocess: Preprocess

    def top1(self, model: nn.Module) -> float:
        """Share of the images whose label comes first, in percent."""
        from quantbench.tasks.evaluate import accuracy, logits

        out = logits(model, self.x, self.preprocess, name="the network in training")
        return accuracy(out, self.y)


def labelled(model: str, name: str, examples: int = 0, *, seed: int = 0) -> LabelledImages:
    """An image set with the preprocessing of a model.

    Args:
        model: its name in the registry.
        name: of the set.
        examples: size of a class-balanced draw; 0 for everything.
        seed: of the draw.

    """
    from quantbench.models import catalog

    found, preprocess = _images(name), catalog.spec(model).preprocess
    if not examples:
        return LabelledImages(found.x, found.y, preprocess)
    index = np.sort(balanced_subset(found.y, examples, seed))
    return LabelledImages(found.x[index], found.y[index], preprocess)


WHOLE = "imagenet/train-whole"  # 1.28 million files, which stay files


@dataclass(frozen=True, eq=False)
class TrainFolder:
    """Labelled image files, of which every batch reads random crops.

    Attributes:
        paths: (N,).
        y: (N,) labels.
        preprocess: pixels to network input.
        size: of a crop.

    """

    paths: Sequence[Path]
    y: np.ndarray
    preprocess: Preprocess
    size: int = 224

    def batch(self, index: np.ndarray, rng: torch.Generator) -> Tensor:
        """Images (n, C, size, size)."""
        from quantbench.tasks.random_crops import random_crops

        return self.preprocess(random_crops([self.paths[i] for i in index], self.size, rng))


def training(model: str, name: str, examples: int = 0) -> Examples:
    """What a model is trained on: a named set, or all of ImageNet's training images.

    Args:
        model: its name in the registry.
        name: of an image set, or :data:`WHOLE`.
        examples: size of a class-balanced draw; 0 for everything.

    Raises:
        DataMissing: its files are not here.

    """
    from quantbench.data.image_sets import imagenet_files
    from quantbench.models import catalog
    from quantbench.optimization.training import TrainSet

    if name != WHOLE:
        found = labelled(model, name, examples)
        return TrainSet(found.x, found.y, found.preprocess)
    paths, y = imagenet_files("train")
    index = np.sort(balanced_subset(y, examples, 0)) if examples else np.arange(len(y))
    return TrainFolder([paths[i] for i in index], y[index], catalog.spec(model).preprocess)


def balanced_subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices (n,) of a class-balanced draw: every class once in random order, then again.

    The first m indices of a draw of n are the draw of m: calibration sets of different sizes are
    nested.

    Args:
        y: labels (N,).
        n: how many.
        seed: of ``numpy.random.default_rng``; the list depends on nothing else.

    Raises:
        BadInput: n is not within 1..N.

    """
    if not 1 <= n <= len(y):
        raise BadInput(f"cannot draw {n} calibration images from {len(y)}")
    rng = np.random.default_rng(seed)
    turns = np.empty(len(y), np.int64)  # when an image's turn comes within its class
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        turns[members] = np.arange(len(members))
    return np.lexsort((rng.permutation(len(y)), turns))[:n]
