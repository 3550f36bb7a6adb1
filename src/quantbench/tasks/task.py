"""A task is a network together with the data it is measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs


class Task(Protocol):
    """What the bench needs of a network and its data; digests must not need the network.

    Attributes:
        model: network name.
        eval_data: evaluation set name.
        metric: ``top1``, ``f1``, ``spearman``, ``map``, ``miou`` or another mean of per-example
            scores.

    """

    @property
    def model(self) -> str: ...  # noqa: D102 - the class says

    @property
    def eval_data(self) -> str: ...  # noqa: D102

    @property
    def metric(self) -> str: ...  # noqa: D102

    def __hash__(self) -> int:
        """Tasks are values: equal ones share their network."""
        ...

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
        """Per-example scores (N,) of a model over the evaluation set; of ``miou`` (N, 3 C)."""
        ...

    def gold(self) -> np.ndarray | None:
        """Reference similarities for rank correlation, else ``None``."""
        ...
