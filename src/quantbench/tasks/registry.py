"""From the name of a network to the task that measures it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from quantbench.errors import BadInput, DataMissing
from quantbench.tasks.images import ImageTask
from quantbench.tasks.task import Task

if TYPE_CHECKING:
    pass


def task(model: str, eval_data: str) -> Task:
    """The task of a claim.

    Raises:
        BadInput: nothing in the suite measures this model.

    """
    if model.startswith(("qa/", "stsb/", "squad/")):
        found: Task = importlib.import_module("quantbench.tasks.similarity").task(model, eval_data)
        return found
    if model.startswith(("scenes/", "coco/")):
        detector: Task = importlib.import_module("quantbench.tasks.detection").task(
            model, eval_data
        )
        return detector
    if model.startswith(("cifar10/", "imagenet/", "shapes/", "torchvision/")):
        return ImageTask(model, eval_data)
    if "/" not in model:
        raise BadInput(
            f"model {model!r}: names have the form family/network, such as cifar10/resnet20"
        )
    raise DataMissing(model, "no loader for this network is part of the suite")
