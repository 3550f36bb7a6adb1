"""Errors and gradients from each example's second moments, against those that images give."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from quantbench.calibration.memory import LIMIT, Activations, Memory
from quantbench.methods.adaround import AdaRound
from quantbench.network.network import Network
from quantbench.optimization import step_in_progress
from quantbench.optimization.example_moments import ExampleMoments, worthwhile
from quantbench.optimization.reconstruction import layer_error
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.quantized import Quantized
from tests.helpers.methods import W3
from tests.helpers.small import LAYERS, small

METHOD = AdaRound(iterations=12, relu=False, moments=True)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(t):
    a = Activations(len(t), t)
    a.append(t)
    return a


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("gib", [1.0, 1e-9], ids=["memory", "file"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_error_and_gradient_of_a_batch_are_those_of_its_images(layer, gib, tmp_path):
    x = torch.randn((7, 4, 7, 8) if isinstance(layer, nn.Conv2d) else (7, 3, 8), generator=rng())
    (quant,) = Quantized(Network.of(nn.Sequential(layer, nn.Flatten()), x[:2]), W3).layers()
    target = quant.run(x, quant.original)
    target += 0.1 * torch.randn(target.shape, generator=rng(1))  # as x and x^ differ
    m = ExampleMoments(quant, kept(x), kept(target), Memory(gib, tmp_path))
    assert (m.rows.data is None) == (gib < 1)
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


@pytest.fixture
def always(monkeypatch):
    """Moments wherever they can be used: this network is too small for them to pay."""
    monkeypatch.setattr("quantbench.methods.adaround.worthwhile", lambda *_: True)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("asymmetric", [True, False])
def test_rounding_learnt_from_moments_is_that_learnt_from_images(asymmetric, bfloat16):
    """Gradients differ in their last bits only.

    A weight whose two codes are as good may fall either way.
    """
    net, x = small()
    found = []
    for moments in (False, True):
        log = Log()
        method = AdaRound(iterations=150, lr=0.01, relu=False, asymmetric=asymmetric)
        method = replace(method, moments=moments, bfloat16=bfloat16)
        q = quantize(method, net, x, W3, seed=0, log=log)
        found.append((torch.cat([layer.codes.flatten() for layer in q.layers()]), log))
    (codes, log), (again, other) = found
    assert log.curves != other.curves
    if bfloat16:  # in which products of images are taken, and of moments not
        assert (codes == again).float().mean() > 0.97
        assert sum(other.numbers.values()) < 1.1 * sum(log.numbers.values())
        return
    assert (codes == again).float().mean() > 0.99
    assert log.numbers == pytest.approx(other.numbers, rel=0.02)
    assert all(
        log.curves[name] == pytest.approx(other.curves[name], rel=0.02) for name in log.curves
    )


@pytest.mark.usefixtures("always")
def test_neither_the_memory_limit_nor_an_interruption_changes_the_result(monkeypatch, tmp_path):
    net, x = small()
    whole = quantize(METHOD, net, x, W3, seed=3)
    monkeypatch.setattr(step_in_progress, "EVERY", 0.0)
    told = []

    def progress(*_):
        told.append(0)
        if len(told) == 31:  # in the third layer
            raise InterruptedError

    with pytest.raises(InterruptedError):
        quantize(METHOD, net, x, W3, seed=3, scratch=tmp_path, progress=progress)
    assert list(tmp_path.rglob("*.part"))
    monkeypatch.setenv(LIMIT, "0.00001")  # 10 kB: everything goes to files
    assert quantize(METHOD, net, x, W3, seed=3, scratch=tmp_path).digest == whole.digest


def test_moments_are_taken_only_where_they_pay():
    """Where many positions share few weights, and examples are visited often enough."""
    x = torch.zeros(2, 16, 32, 32)
    wide, one = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16 * 32 * 32, 8)
    wide, one = Quantized(Network.of(nn.Sequential(wide, nn.Flatten(), one), x), W3).layers()
    assert worthwhile(wide, 1024, 32, 10_000)
    assert not worthwhile(wide, 1024, 32, 100)  # three visits of each
    assert not worthwhile(one, 1024, 32, 10_000)


@pytest.mark.usefixtures("always")
def test_an_activation_function_in_the_objective_needs_the_images(monkeypatch):
    net, x = small()
    seen = []
    real = ExampleMoments.error
    monkeypatch.setattr(
        ExampleMoments, "error", lambda m, *a: (seen.append(m.layer.info), real(m, *a))[1]
    )
    quantize(AdaRound(iterations=2, moments=True), net, x, W3, seed=0)
    assert {info.name for info in seen} == {"one.b", "two.b", "fc"}
