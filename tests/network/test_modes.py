"""Modes that torch runs a part of a network in, odd numbers, odd names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.lowering.lower import executable
from quantbench.network.network import Network
from tests.network.test_any_network import INTEGER, RIGHT, WEIGHTS, cnn, images, made, off
from tests.network.test_users import Does, between, vectors
from tests.network.whole_way import whole_way


def _without_gradients(own: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        y = own.fc(x)
    return torch.relu(y) + x


def _spectrum(own: Any, x: Tensor) -> Tensor:
    return torch.fft.fft(own.fc(x)).abs() / 8


def _numbers_of_classes(own: Any, x: Tensor) -> Tensor:
    y = own.fc(x)
    return y * (y.argmax(1) * 2)[:, None].float() / 16


def _joins_nothing(own: Any, x: Tensor) -> Tensor:
    y = own.fc(x)
    return torch.cat([y[:, :0], y], 1)


MODES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "inference mode": _without_gradients,
    "complex numbers": _spectrum,
    "a part without entries": _joins_nothing,
    "whole numbers": _numbers_of_classes,
}


@pytest.mark.parametrize("what", MODES)
def test_parts_in_other_modes_and_numbers_are_right(what: str) -> None:
    torch.manual_seed(0)
    model = between(MODES[what], fc=nn.Linear(8, 8))
    q = made(model, INTEGER, vectors())
    with torch.no_grad():
        for run in (q.fake(), executable(q)):
            assert off(run(vectors()), model(vectors())) < 2 * RIGHT


def test_an_orthogonal_weight_is_made_plain(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(12, 12)), nn.Linear(12, 5)).eval()
    q = made(model, INTEGER, vectors())
    assert off(executable(q)(vectors()), model(vectors())) < RIGHT
    whole_way(q, Network.of(model, vectors(2)), vectors(), folder=tmp_path)


def test_autocast_is_no_part_of_a_graph() -> None:
    def half(own: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return own.inner(x).float()

    torch.manual_seed(0)
    model = Does(half, inner=cnn(nn.Conv2d(3, 8, 3), nn.ReLU())).eval()
    q = made(model, WEIGHTS)
    assert off(q.fake()(images()), model(images())) < RIGHT
    with pytest.raises(BadInput, match=r"placing .* differs is inner\.0 \(Conv2d\)$"):
        made(model, INTEGER)


def test_a_keyword_is_no_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("class", nn.Linear(12, 5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.get_submodule("class")(x)) * 2

    model = Named().eval()
    assert off(made(model, WEIGHTS, vectors()).fake()(vectors()), model(vectors())) < RIGHT
    with pytest.raises(Unsupported, match=r"no Python keyword for a name, such as that of class"):
        made(model, INTEGER, vectors())


def test_arguments_that_no_graph_holds_are_named() -> None:
    def draws(own: Any, x: Tensor) -> Tensor:
        rng = torch.Generator().manual_seed(1)
        return own.fc(x) * torch.rand(8, generator=rng)

    model = between(draws, fc=nn.Linear(8, 8))
    with pytest.raises(
        Unsupported, match=r"rand takes a Generator, which torch\.fx does not write"
    ):
        made(model, INTEGER, vectors())


def test_a_forward_that_calls_another_model_is_told() -> None:
    model = cnn(nn.Conv2d(3, 8, 3))
    before = model.forward
    model.forward = lambda x: before(x) * 3  # type: ignore[method-assign]
    with pytest.raises(BadInput, match=r"ran on the sample, of 0, 3; the forward of the network"):
        Network.of(model, images(2))


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda _, y: y.flatten(), r"gives \(10,\) for 2 examples"),
        (lambda _, y: y[:, None].expand(-1, 3, -1).transpose(0, 1), r"gives \(3, 2, 5\) for 2"),
        (lambda _, y: y.mean(), r"gives \(\) for 2 examples: the first dimension"),
    ],
)
def test_outputs_that_mix_examples_are_no_program(end: Callable[..., Any], told: str) -> None:
    model = nn.Sequential(nn.Linear(12, 5), Does(end)).eval()
    made(model, WEIGHTS, vectors())
    with pytest.raises(Unsupported, match=told):
        made(model, INTEGER, vectors())
