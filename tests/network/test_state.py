"""What networks keep from one call to the next, and weights that no layer holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.integer.lowering.lower import executable
from quantbench.network.network import Network
from tests.network.test_any_network import INTEGER, RIGHT, cnn, images, made, off
from tests.network.test_users import Does


def _scale_of_the_first(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    if own.scale is None:
        own.scale = float(y.abs().max())
    return y / own.scale


def _normalized_by_the_first(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    if not own.began:
        own.factor.data.copy_(1 / y.std((0, 2, 3))[:, None, None])
        own.began.fill_(1)
    return y * own.factor


def _makes_its_layer(own: Any, x: Tensor) -> Tensor:
    if not hasattr(own, "late"):
        own.late = nn.Conv2d(3, 8, 3)
    return own.late(x)


FIRST: dict[str, tuple[Callable[..., Any], str, Callable[[], dict[str, Any]]]] = {
    "a number": (_scale_of_the_first, r"sets 0\.scale from the values", lambda: {"scale": None}),
    "a weight": (
        _normalized_by_the_first,
        r"sets 0\.factor from the values",
        lambda: {"began": torch.zeros(1), "factor": nn.Parameter(torch.ones(8, 1, 1))},
    ),
    "a layer": (_makes_its_layer, r"makes the modules 0\.late", dict),
}


@pytest.mark.parametrize("what", FIRST)
def test_what_a_first_pass_sets_from_its_values_is_named(what: str) -> None:
    function, told, held = FIRST[what]
    model = cnn(Does(function, conv=nn.Conv2d(3, 8, 3), **held()))
    with pytest.raises(BadInput, match=told):
        Network.of(model, images(2))
    if what != "a layer":  # which has its own weights in the user's model alone
        with torch.no_grad():
            model(images())
        q = made(model, INTEGER)
        assert off(executable(q)(images()), model(images())) < RIGHT


def test_lazy_layers_without_values_are_named() -> None:
    with pytest.raises(BadInput, match=r"0\.weight, 0\.bias are lazy and have no values yet"):
        Network.of(cnn(nn.LazyConv2d(8, 3)), images(2))


def _keeps_a_grid(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    size = y.shape[-1]
    if size not in own.grids:
        own.grids[size] = torch.linspace(0, 1, size)
    return y + own.grids[size]


def _shows_its_last(own: Any, x: Tensor) -> Tensor:
    own.last = own.conv(x)
    own.shown = {"last": own.last}
    return torch.relu(own.last)


@pytest.mark.parametrize("function", [_keeps_a_grid, _shows_its_last])
def test_what_is_kept_and_does_no_harm(function: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = cnn(Does(function, conv=nn.Conv2d(3, 8, 3), grids={}))
    q = made(model, INTEGER)
    assert off(q.fake()(images()), model(images())) < RIGHT
    assert off(executable(q)(images()), model(images())) < RIGHT


def test_a_count_that_no_file_keeps_is_told() -> None:
    def counts(own: Any, x: Tensor) -> Tensor:
        own.calls += 1
        return own.conv(x) * (2 if own.calls > 1000 else 1)

    model = cnn(Does(counts, conv=nn.Conv2d(3, 8, 3), calls=0))
    with pytest.warns(UserWarning, match=r"each pass changes 0\.calls, which no file keeps"):
        Network.of(model, images(2))


def _of_a_list(own: Any, x: Tensor) -> Tensor:
    return own.convs[0](x)


def _computed(own: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, own.kernel * 2)


@pytest.mark.parametrize(
    ("function", "held", "told"),
    [
        (_of_a_list, lambda: {"convs": [nn.Conv2d(3, 8, 3)]}, r"that of 0\.conv2d"),
        (_computed, lambda: {"kernel": torch.rand(8, 3, 3, 3)}, r"that of 0\.conv2d"),
        (
            lambda own, x: F.conv2d(x, own.kernel),
            lambda: {"kernel": torch.rand(8, 3, 3, 3)},
            r"0\.kernel",
        ),
    ],
)
def test_weights_that_no_layer_holds_are_told(
    function: Callable[..., Any], held: Callable[[], dict[str, Any]], told: str
) -> None:
    torch.manual_seed(0)
    model = cnn(Does(function, **held()), nn.ReLU())
    with pytest.warns(UserWarning, match=f"1 weights are multiplied outside all.*: {told}$"):
        q = made(model, INTEGER)
    assert off(executable(q)(images()), model(images())) < RIGHT
