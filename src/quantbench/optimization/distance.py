"""How far a quantized network's output is from what it should be.

That is full precision's output, for which no labels are needed, or the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.system.tensors import Inputs

KINDS = ("kl", "mse", "accuracy")

LABELLED = ("cross_entropy",)  # kinds whose targets are labels

Distance = Callable[[Tensor, Tensor], Tensor]  # (output, target), both (N, ..., C) -> a scalar


def distance(kind: str) -> Distance:
    """A distance of outputs by its name.

    ``kl`` is the Kullback-Leibler divergence of the softmaxes over the last dimension, averaged
    over all elements; ``mse`` the mean squared error; ``accuracy`` the share of rows whose largest
    element is another one. The targets of ``cross_entropy`` are labels (N,).

    Raises:
        BadInput: an unknown kind.

    """
    known: dict[str, Distance] = {"kl": _kl, "mse": F.mse_loss, "accuracy": _accuracy}
    known["cross_entropy"] = F.cross_entropy
    if kind not in known:
        raise BadInput(f"distance {kind!r}: choose {', '.join(known)}")
    return known[kind]


def mean_distance(
    away: Distance, model: nn.Module, data: Sequence[Inputs], targets: Sequence[Tensor]
) -> float:
    """Mean over all examples of the distance between what a network gives and what it should give.

    Args:
        away: the distance, which is a mean over the examples of a batch.
        model: the network.
        data: its inputs, in batches.
        targets: what it should give, in the same batches.

    """
    pairs = zip(data, targets, strict=True)
    parts = [away(model(*batch), target) * batch[0].shape[0] for batch, target in pairs]
    return float(torch.stack(parts).sum()) / sum(batch[0].shape[0] for batch in data)


def _kl(output: Tensor, target: Tensor) -> Tensor:
    p, q = target.log_softmax(-1), output.log_softmax(-1)
    return F.kl_div(q, p, log_target=True, reduction="none").mean()


def _accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(-1) != target.argmax(-1)).float().mean()
