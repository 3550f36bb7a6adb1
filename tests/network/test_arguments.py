"""Arguments of other kinds than asked for: taken where that is clear, else refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quantbench.errors import BadInput
from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.integer.lowering.lower import lower
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.serialize import save
from tests.network.test_any_network import INTEGER, WEIGHTS, cnn, images, made


def model() -> nn.Module:
    return cnn(nn.Conv2d(3, 8, 3), nn.ReLU())


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"sample": None}, "a sample holds NoneType: give a batch of inputs"),
        ({"sample": (2, 3, 8, 8)}, "a sample holds int"),
        ({"kinds": "conv"}, "kinds are classes of layers"),
        ({"blocks": "0"}, "blocks a list of names"),
        ({"output": 0}, r"no output \(0,\): .* is Tensor of a tensor \(2, 5\), .* one example"),
        ({"output": "out"}, r"^model has no output \('out',\)"),
    ],
)
def test_a_network_of_other_arguments(about: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Network.of(model(), **{"sample": images(2), **about})


def test_arguments_that_are_clear_are_taken() -> None:
    with pytest.warns(UserWarning, match="outside all layers"):
        net = Network.of(model(), images(2).numpy(), kinds=nn.Conv2d)  # type: ignore[arg-type]
    assert [i.name for i in net.layers] == ["0"]


WRONG: dict[str, tuple[Callable[[Network], Any], str]] = {
    "a class": (lambda net: quantize(Nearest, net, images(), WEIGHTS), "method is Nearest: give"),
    "a name": (lambda net: quantize("nearest", net, images(), WEIGHTS), "method is 'nearest'"),
    "a scheme's name": (lambda net: quantize(Nearest(), net, images(), "w8a8"), "scheme is 'w8a8'"),
    "a module": (lambda _: quantize(Nearest(), model(), images(), WEIGHTS), "is Sequential: give"),
    "a simulation": (lambda _: lower(made(model(), INTEGER).fake()), "needed, not Sequential"),
    "no program": (lambda _: save_onnx(made(model(), INTEGER), Path("x")), "give qb.lower"),
    "a file": (lambda _: save(made(model()), Path(__file__)), "is a file: give a folder"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_of_another_kind_is_told(what: str) -> None:
    call, told = WRONG[what]
    torch.manual_seed(0)
    with pytest.raises(BadInput, match=told):
        call(Network.of(model(), images(2)))
