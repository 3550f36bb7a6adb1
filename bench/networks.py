"""Trained networks that the benches work on, with the images that go with them."""

from __future__ import annotations

import pytest

from quantbench.errors import DataMissing
from quantbench.system.seeds import seed_for
from quantbench.system.tensors import Inputs
from quantbench.tasks.registry import task
from quantbench.tasks.task import Task

NETWORKS = {  # evaluation images, calibration images, how many
    "cifar10/resnet20": ("cifar10/test", "cifar10/calib_4096", 1024),
    "cifar10/resnet56": ("cifar10/test", "cifar10/calib_4096", 1024),
    "imagenet/mobilenetv1-0.25": ("imagenet/val_1300", "imagenet/train_1000", 512),
    "imagenet/googlenet-bvlc": ("imagenet/val_1300", "imagenet/train_1000", 256),
}


def at_hand(network: str, few: int | None = None) -> tuple[Task, Inputs]:
    """What the network is for, and its calibration set or a few of it.

    Skips where there is no data.
    """
    images, calibration, n = NETWORKS[network]
    where = task(network, images)
    try:
        where.digests(calibration)
    except DataMissing as e:
        pytest.skip(str(e))
    return where, where.calibration(calibration, few or n, seed_for("calib", 0, calibration))
