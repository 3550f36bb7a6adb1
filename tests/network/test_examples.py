"""Calibration data in every form that users have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from quantbench.errors import BadInput
from quantbench.network.examples import LIMIT, as_inputs
from quantbench.network.network import Network

X = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20)
ONE = Network.of(nn.Sequential(nn.Linear(6, 3)).eval(), X[:2])


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        return self.fc(left * scale - right)


TWO = Network.of(Pair().eval(), (X[:2], X[2:4]))

DATA = TensorDataset(X, LABELS)


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.numpy(),
        (X,),
        (X, LABELS),
        {"input": X, "labels": LABELS},
        [X[:8], X[8:]],
        [(X[:8], LABELS[:8]), (X[8:], LABELS[8:])],
        [{"input": X[:8]}, {"input": X[8:]}],
        DATA,
        TensorDataset(X),
        DataLoader(DATA, batch_size=8),
        DataLoader(TensorDataset(X), batch_size=3),
    ],
)
def test_every_form_gives_the_same_tensor(given: object) -> None:
    (found,) = as_inputs(given, ONE)
    assert torch.equal(found, X)


@pytest.mark.parametrize(
    "given",
    [
        (X, X + 1),
        (X, X + 1, LABELS),
        {"right": X + 1, "left": X, "scale": 2.0},
        [(X[:8], X[:8] + 1), (X[8:], X[8:] + 1)],
        TensorDataset(X, X + 1, LABELS),
        DataLoader(TensorDataset(X, X + 1, LABELS), batch_size=8),
    ],
)
def test_networks_of_two_inputs(given: object) -> None:
    left, right = as_inputs(given, TWO)
    assert torch.equal(left, X)
    assert torch.equal(right, X + 1)


@pytest.mark.parametrize("given", [X, DATA, DataLoader(DATA, batch_size=8), [X]])
def test_a_limit_is_kept(given: object) -> None:
    seen: list[tuple[int, int]] = []
    (found,) = as_inputs(given, ONE, limit=9, progress=lambda *p: seen.append(p[:2]))
    assert torch.equal(found, X[:9])
    assert not seen or seen[-1] == (9, 9)


def test_a_loader_without_end_is_read_to_the_limit() -> None:
    def forever():
        while True:
            yield X

    (found,) = as_inputs(forever(), ONE)
    assert len(found) == LIMIT


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "calibration data is int"),
        ([], "empty"),
        ([["a cat"]], "is str, not a tensor"),
        ({"pixels": X}, "has pixels; model takes 1 of input"),
        ([X, torch.rand(3, 7)], r"shapes \(6,\) and \(7,\)"),
        (np.array([["a", "b"]]), "not a tensor"),
    ],
)
def test_what_is_none_of_these_is_refused(given: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        as_inputs(given, ONE)


def test_single_examples_are_batches_of_one() -> None:
    rows = list(X)
    for given in (
        rows,
        [(x, 0) for x in rows],
        (x for x in rows),
        DataLoader(DATA, batch_size=None),
    ):
        (found,) = as_inputs(given, ONE)
        assert torch.equal(found, X)


def test_sparse_examples_are_taken_dense() -> None:
    (found,) = as_inputs(X.to_sparse(), ONE)
    assert torch.equal(found, X)
