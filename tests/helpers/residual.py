"""A small residual network with what folding and capture get wrong."""

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """What capture gets wrong: functional and in-place activations and adds, a projection."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        y = self.relu(self.bn(self.a(x)))
        z = self.b(y)
        z += y
        return self.fc(F.relu(z).mean((2, 3)))


def make(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Residual()
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2)
        return model.eval(), torch.randn(16, 3, 8, 8)
