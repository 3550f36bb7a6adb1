"""What a network's recorded pass holds is freed as soon as nobody needs it."""

import gc
import warnings

import pytest
import torch
from torch import nn

import quantbench as qb
from quantbench.network.graph import recording


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.b(torch.relu(self.a(x))))


@pytest.fixture
def maps(monkeypatch):
    """How many tensors of the size of a feature map there are, though Python collects nothing."""
    monkeypatch.setattr(recording, "LARGE", 1)

    def count():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of objects that do not like to be looked at
            found = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
        return sum(t.shape[-2:] == (37, 41) for t in found)

    gc.collect()
    gc.disable()
    yield count
    gc.enable()


def test_a_network_keeps_its_sample_and_what_it_gives_for_it_alone(maps):
    model, sample = nn.Sequential(Residual(), Residual()).eval(), torch.randn(2, 4, 37, 41)
    net = qb.Network.of(model, sample)
    assert maps() <= len({id(sample), id(net.sample[0])})
    q = qb.quantize(qb.method("nearest"), net, torch.randn(4, 4, 37, 41), qb.scheme("w4a8"), seed=0)
    fake = q.fake()
    gc.collect()
    assert maps() <= len({id(sample), id(net.sample[0]), id(net.sample_output)})
    assert fake(sample).shape == sample.shape
