"""A task is a network together with the data it is measured on; every method and metric works on tasks alike."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from quantbench.errors import BadInput, DataMissing

if TYPE_CHECKING:
    import numpy as np

    from quantbench.network import Inputs, Network


class Task(Protocol):
    """What the bench needs to know of a network and its data; digests must not need the network itself.

    Attributes:
        model: network name.
        eval_data: evaluation set name.
        metric: ``top1``, ``f1``, ``spearman``, ``map`` or another mean of per-example scores.

    """

    @property
    def model(self) -> str: ...  # noqa: D102 - the class says

    @property
    def eval_data(self) -> str: ...  # noqa: D102

    @property
    def metric(self) -> str: ...  # noqa: D102

    def digests(self, calib: str) -> tuple[str, str, str]:
        """Digests of the checkpoint, the calibration set and the evaluation set."""
        ...

    def network(self) -> Network:
        """The full-precision network, batch norm folded."""
        ...

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """``n`` preprocessed calibration examples."""
        ...

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Per-example scores (N,) of a model over the evaluation set."""
        ...

    def gold(self) -> np.ndarray | None:
        """Reference similarities for rank correlation, else ``None``."""
        ...


@dataclass(frozen=True)
class ImageTask:
    """Image classification, top-1."""

    model: str
    eval_data: str
    metric: str = "top1"

    def digests(self, calib: str) -> tuple[str, str, str]:
        """See :class:`Task`; weights count by the digest that they were checked against."""
        evaluated = _images(self.eval_data).digest  # first: missing images are found without importing anything heavy
        calibrated = _images(calib).digest if calib else ""
        from quantbench import data, models
        from quantbench.files import table

        spec = models.spec(self.model)
        name = f"checkpoints/{spec.checkpoint}.safetensors"
        for entry in (table().get(name), table().get(f"embedded/{name}")):
            if entry is not None:
                data.file(name)  # raises DataMissing when it is not here
                return entry.sha256, calibrated, evaluated
        from quantbench.zoo import loading

        loading.read(spec)
        return spec.checkpoint, calibrated, evaluated

    def network(self) -> Network:
        """See :class:`Task`."""
        from quantbench import models
        from quantbench.network import Network
        from quantbench.zoo.loading import block_names, stages

        spec, model = models.spec(self.model), models.load(self.model)
        sample = spec.preprocess(_images(self.eval_data).x[:2])
        blocks = block_names(model, spec)
        return Network.of(model, sample, name=self.model, blocks=blocks, stages=stages(model, blocks))

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """Class-balanced draw; the same images whatever the method."""
        from quantbench import models
        from quantbench.data import balanced_subset

        found = _images(name)
        index = balanced_subset(found.y, n, seed)
        return (models.spec(self.model).preprocess(found.x[index]),)

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Whether each image's label comes first."""
        from quantbench import models
        from quantbench.evaluate import correct_bits, logits

        found = _images(self.eval_data)
        out = logits(model, found.x, models.spec(self.model).preprocess, name=self.model)
        return correct_bits(out, found.y)

    def gold(self) -> None:
        """Classification has no reference similarities."""


@functools.lru_cache(maxsize=4)
def _images(name: str) -> Any:
    """Decoded image sets stay in memory while neighbouring cells use them."""
    from quantbench import data

    return data.images(name)


def task(model: str, eval_data: str) -> Task:
    """The task of a claim.

    Raises:
        BadInput: nothing in the suite measures this model.

    """
    if model.startswith(("qa/", "stsb/", "squad/")):
        found: Task = importlib.import_module("quantbench.text").task(model, eval_data)
        return found
    if model.startswith(("scenes/", "coco/")):
        detector: Task = importlib.import_module("quantbench.detection").task(model, eval_data)
        return detector
    if model.startswith(("cifar10/", "imagenet/", "shapes/", "torchvision/")):
        return ImageTask(model, eval_data)
    if "/" not in model:
        raise BadInput(f"model {model!r}: names have the form family/network, such as cifar10/resnet20")
    raise DataMissing(model, "no loader for this network is part of the suite")
