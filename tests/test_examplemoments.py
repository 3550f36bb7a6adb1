"""Errors and gradients from each example's second moments, against those that images give."""

import pytest
import torch
from quantbench.methods.adaround import AdaRound
from torch import nn

from quantbench.activations import Activations, Memory
from quantbench.api import Log, quantize
from quantbench.examplemoments import ExampleMoments, worthwhile
from quantbench.network import Network
from quantbench.quantized import Quantized
from quantbench.reconstruct import layer_error
from tests.methods import W3
from tests.small import small

LAYERS = {
    "3x3": nn.Conv2d(4, 6, 3, padding=1),
    "stride": nn.Conv2d(4, 6, 3, padding=(0, 1), stride=(2, 1)),
    "same": nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(1, 2)),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "1x1": nn.Conv2d(4, 6, 1),
    "linear": nn.Linear(8, 6),
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(t):
    a = Activations(len(t), t)
    a.append(t)
    return a


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_error_and_gradient_of_a_batch_are_those_of_its_images(layer):
    x = torch.randn((7, 4, 7, 8) if isinstance(layer, nn.Conv2d) else (7, 3, 8), generator=rng())
    (quant,) = Quantized(Network.of(nn.Sequential(layer, nn.Flatten()), x[:2]), W3).layers()
    target = quant.run(x, quant.original)
    target += 0.1 * torch.randn(target.shape, generator=rng(1))  # as x and x^ differ
    m = ExampleMoments(quant, kept(x), kept(target), Memory())
    moved = quant.original + 0.1 * torch.randn(quant.original.shape, generator=rng(2))
    for batch in (torch.tensor([5, 0, 3]), torch.tensor([6])):
        w, again = (moved.clone().requires_grad_() for _ in range(2))
        want = layer_error(quant, x[batch], w, target[batch], None)
        with torch.autocast("cpu", torch.bfloat16):  # makes no product less exact
            found = m.error(again, batch)
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
        (wanted,) = torch.autograd.grad(3 * want, w)
        (gradient,) = torch.autograd.grad(3 * found, again)
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asymmetric", [True, False])
def test_rounding_learnt_from_moments_is_that_learnt_from_images(asymmetric, monkeypatch):
    """Gradients differ in their last bits only, so that a weight whose two codes are as good may fall either way."""
    monkeypatch.setattr("quantbench.examplemoments.PER_VALUE", 0)  # this network is too small for it to pay
    net, x = small()
    found = []
    for moments in (False, True):
        log = Log()
        method = AdaRound(iterations=150, lr=0.01, relu=False, moments=moments, asymmetric=asymmetric)
        q = quantize(method, net, x, W3, seed=0, log=log)
        found.append((torch.cat([layer.codes.flatten() for layer in q.layers()]), log))
    (codes, log), (again, other) = found
    assert (codes == again).float().mean() > 0.99
    assert log.numbers == pytest.approx(other.numbers, rel=0.02)
    assert all(log.curves[name] == pytest.approx(other.curves[name], rel=0.02) for name in log.curves)


def test_moments_are_taken_only_where_they_pay():
    """Where many positions share few weights, and there is room for them."""
    x = torch.zeros(2, 16, 32, 32)
    wide, one = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16 * 32 * 32, 8)
    wide, one = Quantized(Network.of(nn.Sequential(wide, nn.Flatten(), one), x), W3).layers()
    assert worthwhile(wide, 100, 32, Memory(0.01))  # 5.6 MB
    assert not worthwhile(wide, 1000, 32, Memory(0.01))
    assert not worthwhile(one, 100, 32, Memory(100))


@pytest.mark.parametrize("k", [1, 7, 8, 9, 27, 64])
def test_what_fits_in_memory_by_a_byte_is_not_put_in_a_file(k):
    x = torch.randn(3, 8, 8, k, generator=rng())
    (layer,) = Quantized(Network.of(nn.Sequential(nn.Linear(k, 4)), x), W3).layers()
    target = layer.run(x, layer.original)
    values = ExampleMoments(layer, kept(x), kept(target), Memory()).rows.shape[1]
    limit = 4 * 3 * values / 2**30
    assert worthwhile(layer, 3, 10**9, Memory(limit)) == (16 * values < 2 * layer.info.macs)
    assert not worthwhile(layer, 3, 10**9, Memory(limit * (1 - 1e-6)))
    assert ExampleMoments(layer, kept(x), kept(target), Memory(limit)).rows.file is None


def test_an_activation_function_in_the_objective_needs_the_images(monkeypatch):
    monkeypatch.setattr("quantbench.examplemoments.PER_VALUE", 0)
    net, x = small()
    seen = []
    real = ExampleMoments.error
    monkeypatch.setattr(ExampleMoments, "error", lambda m, *a: (seen.append(m.layer.info), real(m, *a))[1])
    quantize(AdaRound(iterations=2, moments=True), net, x, W3, seed=0)
    assert seen
    assert all(info.activation is None for info in seen)
    assert len({info.name for info in seen}) < len(net.layers)
