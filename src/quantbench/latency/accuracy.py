"""How well each runtime classifies real images with the same integer network.

A runtime that differs from the definition in some codes may lose nothing by it, or much: only
images tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from quantbench.integer.backends.base import Array
from quantbench.latency.interleaved import Runner

PASS = 50  # images a call

DEFINITION = "native w8a8"  # its codes are the definition's


@dataclass(frozen=True)
class Accuracy:
    """One runtime on some images.

    Attributes:
        top1: share of the images whose label comes first.
        same: share whose class is the definition's.
        images: how many there are.

    """

    top1: float
    same: float
    images: int


def accuracies(network: str, runners: Mapping[str, Runner], count: int) -> dict[str, Accuracy]:
    """Top-1 accuracy of every runner, ``native w8a8`` among them, on the same images.

    Args:
        network: its name; images are its evaluation set's, drawn without regard to anything.
        runners: what maps float32 images (N, C, H, W) to logits, by name.
        count: images, at most.

    Raises:
        DataMissing: the images are not on this machine.

    """
    labels: list[Array] = []
    classes: dict[str, list[Array]] = {name: [] for name in runners}
    for x, y in _batches(network, count):
        labels.append(y)
        for name, run in runners.items():
            classes[name].append(np.asarray(run(x)).reshape(len(x), -1).argmax(1))
    right = np.concatenate(labels)
    found = {name: np.concatenate(parts) for name, parts in classes.items()}
    ours = found[DEFINITION]
    return {
        name: Accuracy(float((c == right).mean()), float((c == ours).mean()), len(right))
        for name, c in found.items()
    }


def _batches(network: str, count: int) -> Iterator[tuple[Array, Array]]:
    """Preprocessed images with their labels."""
    import torch

    from quantbench.data.images import images
    from quantbench.models.catalog import spec

    about = spec(network)
    data = images(about.eval_data)
    order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(0)).numpy()
    for start in range(0, min(count, len(order)), PASS):
        index = order[start : min(start + PASS, count)]
        x = about.preprocess(data.x[index])
        yield np.ascontiguousarray(x.numpy()), np.asarray(data.y)[index]
