"""A residual network small enough for many reconstructions, and layers of every geometry."""

import torch
from torch import nn
from torch.nn import functional as F

from quantbench.network.network import Network

LAYERS = {
    "3x3": nn.Conv2d(4, 6, 3, padding=1),
    "stride": nn.Conv2d(4, 6, 3, padding=(0, 1), stride=(2, 1)),
    "same": nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(1, 2)),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "groups": nn.Conv2d(4, 6, 3, groups=2, stride=2),
    "1x1": nn.Conv2d(4, 6, 1),
    "linear": nn.Linear(8, 6),
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.relu = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.b, self.out = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.out(self.b(self.relu(self.a(x))) + x)


class Small(nn.Module):
    """A stem, two residual blocks, a linear head."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.one, self.two, self.fc = Block(), Block(), nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.two(self.one(self.relu(self.stem(x)))).mean((2, 3)))


def small(n=80, **kwargs):
    """(network, n images); the blocks are declared unless told otherwise."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small()
        for p in model.parameters():
            p.data *= 2  # so that errors are of the size that lambda is made for
    # neighbouring pixels are alike, as in images
    x = F.avg_pool2d(torch.randn(n, 3, 7, 7, generator=rng), 3, 1)
    about = {"blocks": ("one", "two"), "stages": (("one", "two"),)} | kwargs
    return Network.of(model.eval(), x[:2], name="small", **about), x
