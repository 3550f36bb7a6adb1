"""Transposed convolutions, convolutions of volumes, and PReLU with many slopes, on integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.integer.ir import Island, Program
from quantbench.integer.lowering.lower import executable
from tests.helpers.lowered import W4A4, W8A8, exact, follows_fake, images, kinds, made


def islands(program: Program) -> list[str]:
    return [op.reason for op in program.ops if isinstance(op, Island)]


UP = {  # kernel, stride, padding, output padding, groups, dilation
    "squares side by side": (2, 2, 0, 0, 1, 1),
    "overlapping": (4, 2, 1, 0, 1, 1),
    "odd": (3, 2, 1, 1, 1, 1),
    "uneven": ((3, 5), (3, 2), (1, 0), (2, 1), 1, 1),
    "rows alone": ((3, 1), (2, 1), (1, 0), (1, 0), 1, 1),
    "grouped": (3, 2, 1, 1, 2, 1),
    "dilated": (3, 2, 1, 1, 1, 2),
}


@pytest.mark.parametrize("name", UP)
def test_transposed_convolutions_run_on_integers(name: str) -> None:
    kernel, stride, padding, more, groups, dilation = UP[name]
    up = nn.ConvTranspose2d(8, 6, kernel, stride, padding, more, groups, dilation=dilation)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), up, nn.ReLU(), nn.Conv2d(6, 4, 1))
    q = made(model)
    program = exact(q, n=3)
    assert islands(program) == []
    follows_fake(q, program)
    x = images(2, 3, 12, 12)
    assert (executable(q)(x) - q.fake()(x)).norm() < 0.03 * q.fake()(x).norm()


def test_two_of_them_read_one_tensor_with_a_shortcut() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a = nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 2, 2)
            self.b, self.c = (
                nn.ConvTranspose2d(8, 4, (2, 4), (2, 4)),
                nn.Conv2d(4, 4, (1, 2), (1, 2)),
            )

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.first(x))
            return F.relu(self.a(y) + self.c(F.relu(self.b(y)))).mean((2, 3))

    q = made(Two())
    program = exact(q)
    assert islands(program) == []
    follows_fake(q, program)


@pytest.mark.parametrize("scheme", [W8A8, W4A4], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_of_volumes_run_on_integers(groups: int, scheme) -> None:
    class Volumes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv3d(2, 4, (3, 3, 2), (2, 1, 1), (1, 0, 1))
            self.norm = nn.BatchNorm3d(4)
            self.second = nn.Conv3d(4, 4, 3, padding=(2, 1, 1), dilation=(2, 1, 1), groups=groups)
            self.head = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.norm(self.first(x)))
            return self.head(F.relu(y + self.second(y)).mean((2, 3, 4)))

    torch.manual_seed(0)
    q = made(Volumes(), scheme, (2, 5, 6, 7))
    program = exact_volume(q)
    assert islands(program) == []
    assert kinds(program)["Conv+add"] == 1


def exact_volume(q) -> Program:
    """As ``exact``, of a program whose input is (C, D, H * W)."""
    program = exact(q)
    x = images(3, 2, 5, 6, 7)
    off = (executable(q)(x) - q.fake()(x)).norm() / q.fake()(x).norm()
    assert off < (0.03 if q.scheme.weights.bits == 8 else 0.3)
    return program


@pytest.mark.parametrize("scheme", [W8A8, W4A4], ids=str)
def test_prelu_with_a_slope_for_each_channel(scheme) -> None:
    prelu = nn.PReLU(8)
    with torch.no_grad():
        prelu.weight.copy_(torch.linspace(-0.5, 1.5, 8))
        prelu.weight[3] = 0
    q = made(nn.Sequential(nn.Conv2d(3, 8, 3), prelu, nn.Conv2d(8, 4, 1)), scheme)
    program = exact(q, n=3)
    assert islands(program) == []
    assert kinds(program) == {"Conv": 2, "Lut": 2, "Conv+add": 1}
    if scheme is W8A8:
        follows_fake(q, program)
