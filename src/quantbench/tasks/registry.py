"""From the name of a network to the task that measures it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from quantbench.errors import BadInput, DataMissing

if TYPE_CHECKING:
    from quantbench.tasks.task import Task

# family -> what makes its tasks; keys of results follow this table as well
TASKS = {
    "cifar10": "quantbench.tasks.images:ImageTask",
    "imagenet": "quantbench.tasks.images:ImageTask",
    "shapes": "quantbench.tasks.images:ImageTask",
    "torchvision": "quantbench.tasks.images:ImageTask",
    "brecq": "quantbench.tasks.images:ImageTask",
    "mqbench": "quantbench.tasks.images:ImageTask",
    "calibtip": "quantbench.tasks.images:ImageTask",
    "coco": "quantbench.tasks.detection.detectors:detection",
    "scenes": "quantbench.tasks.detection.detectors:detection",
    "voc": "quantbench.tasks.segmentation:segmentation",
    "qa": "quantbench.tasks.answering:embedded",
    "squad": "quantbench.tasks.answering:squad",
    "stsb": "quantbench.tasks.similarity:minilm",
    "tinystories": "quantbench.tasks.language:stories",
}


def task(model: str, eval_data: str) -> Task:
    """The task of a claim.

    Args:
        model: ``family/network``.
        eval_data: name of the evaluation set.

    Raises:
        BadInput: no such network, or no name of that form.
        DataMissing: nothing in the suite measures this family.

    """
    family, slash, _ = model.partition("/")
    if not slash:
        raise BadInput(
            f"model {model!r}: names have the form family/network, such as cifar10/resnet20"
        )
    if family not in TASKS:
        raise DataMissing(model, "no loader for this network is part of the suite")
    module, _, maker = TASKS[family].partition(":")
    found: Task = getattr(import_module(module), maker)(model, eval_data)
    return found


def module_of(model: str) -> str:
    """Module of a network's task, without importing it; empty for a family that is not known."""
    return TASKS.get(model.partition("/")[0], "").partition(":")[0]
