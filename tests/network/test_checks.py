"""Rewriting steps that are planted with faults: each is refused, naming where and what is odd."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network import network as network_module
from quantbench.network.network import Network
from quantbench.network.plain.make import is_plain
from quantbench.quantization import quantized as quantized_module
from quantbench.quantization.quantized import Quantized
from tests.network.test_any_network import INTEGER, ODD, WEIGHTS, Branching, cnn, images

OWN = "with a forward of its own"

TOLD = {
    "a subclass that scales its weight": f"0 (Standardized): a subclass of Conv2d {OWN}",
    "a subclass that pads": f"0 (SamePadding): a subclass of Conv2d {OWN}",
    "a subclass that scales its output": f"0 (Scaled): a subclass of Conv2d {OWN}",
    "a subclass with another layer beside": f"0.2 (Adapter): a subclass of Linear {OWN}",
    "a hook": "0 (Conv2d): a hook",
    "a hook before": "0 (Conv2d): a hook",
    "a patched forward": "0 (Conv2d): a patched forward",
    "reflected padding": "0 (Conv2d)",
    "a batch norm with an activation inside": f"1 (NormAct): a subclass of BatchNorm2d {OWN}",
    "weight_norm": "0 (ParametrizedConv2d): a parametrization",
    "spectral_norm": "0 (ParametrizedConv2d): a parametrization",
    "the older weight_norm": "0 (Conv2d): a hook",
    "a pruning mask": "0 (Conv2d): a hook",
    "a branch": f"0 (Branching): a subclass of Conv2d {OWN}, a branch that depends on values",
}

ALL = ODD | {"a branch": lambda: [Branching(3, 8, 3)]}


def taken_for_torchs(model: nn.Module, *_: Any) -> None:
    """Put a layer of torch's in the place of the first module that is more than that."""
    for name, module in model.named_modules():
        fresh = (nn.Conv2d(3, 8, 3), nn.Linear(3, 8), nn.BatchNorm2d(8))
        odd = hasattr(module, "parametrizations") or not is_plain(module)
        for made in fresh:
            if isinstance(module, type(made)) and odd:
                return model.set_submodule(name, made.eval())
    raise AssertionError


@pytest.mark.parametrize("what", ALL)
def test_a_module_taken_for_torchs_own_is_named_with_what_is_odd(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = cnn(*ALL[what]())
    monkeypatch.setattr(network_module, "make_plain", taken_for_torchs)
    told = re.escape(f"the first module whose output differs is {TOLD[what]}")
    step = r"mine: making layers plain changed the network's output by \d+\.\d%; "
    with pytest.raises(BadInput, match=f"^{step}{told}$"):
        Network.of(model, images(2), name="mine")


def test_another_shape_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*ODD["a subclass that pads"]()).eval()
    monkeypatch.setattr(network_module, "make_plain", taken_for_torchs)
    with pytest.raises(BadInput, match=r"from \(2, 8, 4, 4\) to \(2, 8, 6, 6\); .* is 0 \(Same"):
        Network.of(model, images(2))


def residual() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    return cnn(*layers)


def test_a_batch_norm_that_is_folded_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = network_module.fold

    def wrong(model: nn.Module, norms: Any) -> Any:
        stats = right(model, norms)
        model[3].bias.data += 1
        return stats

    monkeypatch.setattr(network_module, "fold", wrong)
    with pytest.raises(BadInput, match=r"folding batch norm changed .* differs is 3 \(Conv2d\)$"):
        Network.of(residual(), images(2))


def test_a_layer_that_is_put_in_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network.of(residual(), images(2))

    class Wrong(quantized_module.QuantLayer):
        def run(self, x: Tensor, weight: Tensor) -> Tensor:
            return super().run(x, -weight if self.info.name == "3" else weight)

    monkeypatch.setattr(quantized_module, "QuantLayer", Wrong)
    with pytest.raises(BadInput, match=r"putting layers in changed .* differs is 3 \(Conv2d\)$"):
        Quantized(net, WEIGHTS)


def test_a_quantizer_whose_placement_loses_something(monkeypatch: pytest.MonkeyPatch) -> None:
    net, right = Network.of(residual(), images(2)), quantized_module.place

    def wrong(model: nn.Module, *given: Any) -> nn.Module:
        placed = right(model, *given)
        placed.set_submodule("5", nn.Identity())
        return placed

    monkeypatch.setattr(quantized_module, "place", wrong)
    step = r"placing quantizers of activations changed .* differs is 5 \(ReLU\)$"
    with pytest.raises(BadInput, match=step):
        Quantized(net, INTEGER)
