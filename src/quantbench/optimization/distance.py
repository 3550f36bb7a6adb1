"""How far a quantized network's output is from full precision's; no labels are needed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from quantbench.errors import BadInput

KINDS = ("kl", "mse", "accuracy")


def distance(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of (output, target), both (N, ..., C), that gives a scalar.

    ``kl`` is the Kullback-Leibler divergence of the softmaxes over the last dimension, averaged
    over all elements; ``mse`` the mean squared error; ``accuracy`` the share of rows whose largest
    element is another one.

    Raises:
        BadInput: an unknown kind.

    """
    known: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "kl": _kl,
        "mse": F.mse_loss,
        "accuracy": _accuracy,
    }
    if kind not in known:
        raise BadInput(f"distance {kind!r}: choose {', '.join(KINDS)}")
    return known[kind]


def _kl(output: Tensor, target: Tensor) -> Tensor:
    p, q = target.log_softmax(-1), output.log_softmax(-1)
    return F.kl_div(q, p, log_target=True, reduction="none").mean()


def _accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(-1) != target.argmax(-1)).float().mean()
