"""Networks that equalization has to follow: depthwise, grouped, branched, clamped."""

import torch
from torch import nn
from torch.nn import functional as F

from quantbench.quantization.method import Job
from quantbench.quantization.scheme import Grid, Scheme

W8A8 = Scheme(Grid(8, range="minmax"), Grid(8, symmetric=False, range="minmax"))


class Separable(nn.Module):
    """Full, depthwise, pointwise, grouped and linear layers, each ReLU6 a module of its own."""

    def __init__(self):
        super().__init__()
        self.full = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1, self.act1 = nn.BatchNorm2d(8), nn.ReLU6()
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(8), nn.ReLU6()
        self.point = nn.Conv2d(8, 12, 1, bias=False)
        self.bn3, self.act3 = nn.BatchNorm2d(12), nn.ReLU6()
        self.group = nn.Conv2d(12, 6, 3, groups=3)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.act1(self.bn1(self.full(x)))
        x = self.act2(self.bn2(self.depth(x)))
        x = self.act3(self.bn3(self.point(x)))
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.group(x)), 1).flatten(1))


class Branches(nn.Module):
    """What may be scaled (a, b: concatenated, pooled, read twice) and what may not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1)
        self.c, self.d = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, padding=1)
        self.e, self.f = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.g, self.h, self.i = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.lrn, self.shared = nn.LocalResponseNorm(3), nn.ReLU6()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.cat([F.relu(self.a(x)), F.max_pool2d(self.b(x), 3, 1, 1)], 1)
        x = self.shared(self.c(x)) + self.d(x)  # c and d go into a sum
        x = self.lrn(self.e(x))  # e goes through a normalization
        x = F.relu6(self.f(x))  # f meets a ReLU6 that cannot be given bounds
        x = self.shared(self.g(x))  # g meets one that c meets as well
        y = self.h(x)
        y += x  # h is added to in place
        return self.fc(self.i(y).mean((2, 3)))  # i is free


def seeded(cls, seed=0, spread=1.0):
    """A network with channels of unequal ranges, ceilings that matter, and inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = cls()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.running_var, 0.5, 2)
                nn.init.normal_(m.running_mean)
                m.weight.data = torch.exp(spread * torch.randn(m.num_features))
                nn.init.normal_(m.bias, 1.0, 2.0)
        return model.eval(), torch.randn(16, 3, 8, 8)


def job(net, x, scheme=W8A8):
    return Job(net, (x,), scheme, torch.Generator().manual_seed(0))


def close(a, b, tol=1e-4):
    """Equal up to float32 rounding, which a few dozen rescalings accumulate."""
    return torch.allclose(a, b, rtol=tol, atol=tol * float(b.detach().abs().max()))
