"""AdaRound's objective on the activation function that a network has, whatever form it is in."""

import pytest
import torch
from torch import nn

from quantbench.methods.adaround import AdaRound
from quantbench.methods.equalize import Equalize
from quantbench.network.activation_functions import clamps
from quantbench.network.hooks import capture_output
from quantbench.network.modules import ChannelClamp
from quantbench.network.network import Network
from quantbench.quantization.method import Log, Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme

W3 = Scheme(Grid(3, per_channel=True))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def ceilings(act):
    """Two convolutions whose outputs often reach a ceiling of 6, and a linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(3, 6, 3), act(), nn.Conv2d(6, 6, 3), act(), nn.Flatten()),
            nn.Linear(6 * 9, 4),
        )
    for layer in (model[0], model[2]):
        layer.weight.data *= 5
        layer.bias.data += 3
    x = torch.randn(60, 3, 7, 7, generator=rng(1))
    return Network.of(model.eval(), x[:2], name="ceilings"), x


def clamp():
    return ChannelClamp(torch.zeros(6), torch.full((6,), 6.0))


def test_a_clamp_of_every_channel_at_6_is_relu6():
    found = []
    for act in (nn.ReLU6, clamp):
        net, x = ceilings(act)
        log = Log()
        q = quantize(AdaRound(iterations=80, lr=0.05), net, x, W3, log=log)
        found.append((log.numbers, [layer.codes for layer in q.layers()]))
    (numbers, codes), (again, same) = found
    assert numbers == pytest.approx(again)
    assert all((a == b).all() for a, b in zip(codes, same, strict=True))


def test_after_equalization_the_objective_still_has_the_ceilings():
    net, x = ceilings(nn.ReLU6)
    log = Log()
    q = quantize(Pipeline((Equalize(), AdaRound(iterations=40, lr=0.05))), net, x, W3, log=log)
    (f_a,) = clamps(q.net.model).values()
    name = q.net.layers[0].name
    z, z_hat = (capture_output(m, name, (x,)) for m in (q.net.model, q.model))
    inside = (f_a(z_hat) - f_a(z)).square().sum(1).mean()
    assert log.numbers[f"objective/{name}"] == pytest.approx(float(inside), rel=1e-4)
    assert inside < 0.9 * (z_hat - z).square().sum(1).mean()  # what ceilings hide does not count
