"""Programs that are planted with faults: none is another function than the network unnoticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quantbench.errors import Unsupported
from quantbench.integer.ir import AvgPool, Conv
from quantbench.integer.lowering import emit
from quantbench.integer.lowering.lower import lower
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid
from tests.network.test_any_network import INTEGER, Scaled, cnn, images, made


def plant(monkeypatch: pytest.MonkeyPatch, name: str, **changed: Any) -> None:
    """Lower a layer with another number in it; a function makes the number from the operator."""
    right = emit.conv

    def wrong(layer: Any, *given: Any) -> Conv:
        op = right(layer, *given)
        if name not in ("every layer", layer.info.name):
            return op
        return replace(op, **{k: make(op, *given[1:3]) for k, make in changed.items()})

    monkeypatch.setattr(emit, "conv", wrong)


def test_an_operator_that_is_lowered_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    q = made(cnn(Scaled(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()), INTEGER)
    lower(q)
    plant(monkeypatch, "2", weight=lambda op, *_: -op.weight)
    told = r"program _3_act differs from the simulation by .* lowering of 3 \(ReLU\); please"
    with pytest.raises(Unsupported, match=told):
        lower(q)


def test_what_is_odd_about_the_module_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    q = made(cnn(Scaled(3, 8, 3), nn.MaxPool2d(2)), INTEGER)
    plant(monkeypatch, "0.conv2d", weight=lambda op, *_: -op.weight)
    told = r"lowering of 0 \(Scaled\): a subclass of Conv2d with a forward of its own; please"
    with pytest.raises(Unsupported, match=told):
        lower(q)


def test_the_last_operator_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    q = made(cnn(nn.Conv2d(3, 8, 3), nn.ReLU()), INTEGER)
    plant(monkeypatch, "4", bias=lambda op, *_: 0 * op.bias)
    with pytest.raises(Unsupported, match=r"program the output differs from the simulation by"):
        lower(q)


def chain(depth: int = 24, n: int = 16, gain: float = 1.15) -> nn.Sequential:
    """Rotations that keep the mean over all channels apart, and make it larger."""
    torch.manual_seed(0)
    layers = []
    for _ in range(depth):
        basis = torch.linalg.qr(torch.cat([torch.ones(n, 1), torch.randn(n, n - 1)], 1)).Q
        turned = torch.linalg.qr(torch.randn(n - 1, n - 1)).Q
        layers.append(nn.Linear(n, n))
        layers[-1].weight.data = basis @ torch.block_diag(torch.tensor(gain), turned) @ basis.T
        nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers).eval()


def test_small_faults_that_add_up_are_seen_in_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    x -= x.mean(1, keepdim=True)
    q = quantize(Nearest(), Network.of(chain(), x[:8]), x, INTEGER)
    lower(q)

    def shifted(op: Conv, x: Any, y: Any) -> Any:
        """Less of a step than roundings do to one tensor."""
        step = 0.0 if y is None else 0.15 * y.scale / x.scale / op.weight_scale
        return (op.bias + np.rint(step)).astype(np.int32)

    plant(monkeypatch, "every layer", bias=shifted)
    told = r"program's output differs from the float network's by .* the simulation's by 1\d%: this"
    with pytest.raises(Unsupported, match=told):
        lower(q)


def mistaken(bits: int) -> Quantized:
    """A quantized network whose second layer has its weights with the other sign."""
    model = cnn(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.ReLU())
    nn.init.zeros_(model[-1].bias)  # or the output is little but this
    grid = Grid(bits, per_channel=True)
    q = made(model, replace(INTEGER, weights=grid, first_last_bits=8))
    layer = q.layer("2")
    assert layer.codes is not None
    assert layer.qparams is not None
    layer.set_codes((-layer.codes.float()).clamp(max=layer.qparams.levels[-1]), layer.qparams)
    return q


def test_a_simulation_that_is_another_function_is_told_with_its_first_tensor() -> None:
    told = r"by \d+% on .* 8 bits seldom cost more than 50%; the first .* far off is '_3_act'"
    with pytest.warns(UserWarning, match=told):
        lower(mistaken(8))


def test_of_fewer_bits_nothing_is_said() -> None:
    lower(mistaken(7))


def test_means_that_cancel_are_no_fault_of_the_lowering() -> None:
    model = cnn(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8))  # of which the mean is rounding alone
    net = Network.of(model, 3 * images(2) - 2)  # other data than those of the ranges
    program = lower(quantize(Nearest(), net, images(), INTEGER))
    assert any(isinstance(op, AvgPool) for op in program.ops)
