"""NanoDet-m: its parts against their definitions, and its integer form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.models import nanodet
from quantbench.models.nanodet import Canvas, NanoDetM, ShuffleUnit
from tests.helpers.lowered import exact, follows_fake, kinds, made


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_passes_half_of_the_channels_by_and_shuffles(stride: int) -> None:
    unit = ShuffleUnit(8, 8, stride).eval()
    x = drawn(2, 8, 6, 6)
    with torch.no_grad():
        first = unit.branch1(x) if stride == 2 else x[:, :4]
        second = unit.branch2(x if stride == 2 else x[:, 4:])
        y = unit(x)
    for c in range(4):
        assert torch.equal(y[:, 2 * c], first[:, c])
        assert torch.equal(y[:, 2 * c + 1], second[:, c])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_runs_on_integers(stride: int) -> None:
    stem = nn.Conv2d(3, 8, 1)
    q = made(nn.Sequential(stem, ShuffleUnit(8, 8, stride), nn.Conv2d(8, 2, 1)))
    program = exact(q)
    halves = 2 * (stride == 1)
    layers = 5 + 2 * (stride == 2)
    assert kinds(program) == {
        "Conv": layers,
        "Lut": 2 + (stride == 2),  # leaky ReLU
        "Select": halves + 1,
        "Concat": 1,
    }
    follows_fake(q, program)


def test_maps_lie_on_one_canvas_and_come_back() -> None:
    maps = [drawn(2, 5, side, side) for side in (12, 6, 3)]
    canvas = Canvas(96)(*maps)
    assert canvas.shape == (2, 15, 12, 12)
    assert all(torch.equal(a, b) for a, b in zip(nanodet.levels(canvas), maps, strict=True))
    assert float(canvas.abs().sum()) == pytest.approx(float(sum(m.abs().sum() for m in maps)))


def test_the_way_down_is_bilinear_interpolation() -> None:
    x = drawn(2, 3, 12, 8)
    half = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    assert torch.allclose(NanoDetM(64).down(x), half, atol=1e-6)


def test_a_small_one_has_the_shapes_and_layers_of_the_published() -> None:
    model = NanoDetM(64, classes=3).eval()
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 73
    with torch.no_grad():
        maps = nanodet.levels(model(drawn(1, 3, 64, 64)))
    assert [m.shape for m in maps] == [(1, 3 + 32, side, side) for side in (8, 4, 2)]
    assert sum(p.numel() for p in NanoDetM().parameters()) == 941_818  # 0.94 M, as published
    with pytest.raises(BadInput, match="choose a multiple of 32"):
        NanoDetM(100)
