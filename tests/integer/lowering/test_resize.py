"""Interpolation in networks: which calls become the operator, where its codes come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.integer.backends.base import NAMES, backend
from quantbench.integer.ir import Island, Program, Resize
from quantbench.integer.lowering.lower import lower
from quantbench.integer.store import load, save
from quantbench.integer.testing.audit import EXACT, OURS, audit
from quantbench.models.deeplab import DeepLabV3
from tests.helpers.lowered import W4A4, W8A8, exact, follows_fake, images, kinds, made, randomize


class Scaled(nn.Module):
    """An interpolation between two layers, or behind the last."""

    def __init__(self, *, last: bool = False, **how: object) -> None:
        super().__init__()
        self.a, self.b, self.last, self.how = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1), last, how

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        if self.last:
            return F.interpolate(self.b(y), **self.how)
        return self.b(F.interpolate(y, **self.how))


def resizes(program: Program) -> list[Resize]:
    return [op for op in program.ops if isinstance(op, Resize)]


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ({"size": (21, 13), "mode": "bilinear", "align_corners": True}, (21, 13)),
        ({"scale_factor": 2, "mode": "bilinear"}, (20, 20)),
        ({"scale_factor": 0.5, "mode": "bilinear", "align_corners": False}, (5, 5)),
        ({"scale_factor": (1.0, 1.5), "mode": "bilinear"}, (10, 15)),
    ],
)
def test_an_interpolation_between_layers_is_exact(how: dict[str, object], size: object) -> None:
    q = made(Scaled(**how))
    program = exact(q)
    assert [op.size for op in resizes(program)] == [size]
    follows_fake(q, program)


@pytest.mark.parametrize(
    "how",
    [
        {"scale_factor": 2},
        {"scale_factor": 2, "mode": "bicubic"},
        {"scale_factor": 0.35, "mode": "bilinear"},  # from 10 to 3, but places go by the factor
        {"size": 7, "mode": "bilinear", "antialias": True},
    ],
)
def test_others_stay_in_floats_and_say_why(how: dict[str, object]) -> None:
    program = lower(made(Scaled(**how)))
    (island,) = (op for op in program.ops if isinstance(op, Island))
    assert island.reason.startswith("interpolation")
    assert not resizes(program)


def test_the_output_is_interpolated_from_eight_bits_to_values() -> None:
    program = exact(q := made(Scaled(last=True, size=(19, 23), mode="bilinear"), W4A4))
    (op,) = resizes(program)
    assert op.out is None
    assert op is program.ops[-1]
    assert (program.formats[op.inputs[0]].lo, program.formats[op.inputs[0]].hi) == (0, 255)
    follows_fake(q, program)


W4A8 = replace(W8A8, weights=replace(W8A8.weights, bits=4))


@pytest.mark.parametrize("scheme", [W8A8, W4A8], ids=str)
def test_a_whole_small_deeplab_on_every_executor(scheme: object, tmp_path: object) -> None:
    torch.manual_seed(0)
    q = made(DeepLabV3(5, 33), scheme, (3, 33, 33))
    program = lower(q)
    assert kinds(program)["Island"] == 0
    assert kinds(program)["Resize"] == 2
    save(program, tmp_path / "program")
    again = load(tmp_path / "program")
    x = images(2, 3, 33, 33).numpy()
    found = audit(again, [x], OURS)
    assert {name for name in found if found[name].different} == set()
    assert set(EXACT) & {n for n in NAMES if backend(n).available() is None} <= set(found)
    assert all(t.compared for t in found.values())
    # at 4 bits the unit of the int32 bias is sixteen times as coarse: more roundings turn
    follows_fake(q, program, share=0.01 if scheme is W8A8 else 1.0)


def test_interpolated_features_are_spread_from_one_pixel() -> None:
    """Image pooling: one pixel becomes all of a map."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Upsample((7, 5), mode="bilinear", align_corners=True), nn.Conv2d(6, 4, 1),
    )  # fmt: skip
    program = exact(made(randomize(model)))
    (op,) = resizes(program)
    assert program.shapes[op.output] == (6, 7, 5)
