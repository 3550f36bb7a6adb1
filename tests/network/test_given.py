"""Several inputs and outputs, shared modules, halves: converted or chosen when asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.lowering.linears import linear_programs
from quantbench.integer.lowering.lower import executable
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from tests.network.test_any_network import INTEGER, RIGHT, WEIGHTS, images, made, off
from tests.network.whole_way import whole_way


@dataclass
class Answer:
    classes: Tensor
    maps: list[Tensor]


class Several(nn.Module):
    """Gives classes and maps in one of many forms."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> object:
        y = torch.relu(self.conv(x))
        classes = self.fc(y.mean((2, 3)))
        if scale is not None:
            classes = classes * scale
        match self.form:
            case "dict":
                return {"classes": classes, "maps": [y]}
            case "tuple":
                return classes, [y]
        return Answer(classes, [y])


WAYS = {
    "dict": ("classes", ("maps", 0)),
    "tuple": (0, (1, 0)),
    "dataclass": ("classes", ("maps", 0)),
}


@pytest.mark.parametrize("form", WAYS)
def test_the_user_names_the_output(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Several(form).eval(), images()
    with pytest.raises(BadInput, match=r"returns .* of (classes|0) \(2, 5\), (maps|1)\.0 \(2, 8"):
        Network.of(model, x[:2])
    classes, maps = WAYS[form]
    for output, shape in ((classes, (16, 5)), (maps, (16, 8, 6, 6))):
        net = Network.of(model, x[:2], output=output)
        names = ["conv", "fc"] if shape == (16, 5) else ["conv"]
        assert [i.name for i in net.layers][: len(names)] == names
        q = quantize(Nearest(), net, x, INTEGER)
        found = executable(q)(x)
        assert found.shape == shape
        assert off(found, net.model(x)) < RIGHT
        whole_way(q, Network.of(model, x[:2], output=output), x, folder=tmp_path)
    with pytest.raises(BadInput, match="has no output"):
        Network.of(model, x[:2], output=("nothing", 7))
    assert type(model) is Several  # the user's own is as it was


def test_inputs_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Several("tuple").eval(), images()
    scale = torch.rand(16, 1) + 0.5
    sample = {"scale": scale[:2], "x": x[:2]}  # in the user's order
    net = Network.of(model, sample, output=0)
    expected = model(x, scale)[0]
    assert torch.equal(net.model(scale, x), expected)
    given = {"x": x, "labels": torch.zeros(16), "scale": scale}
    for scheme in (WEIGHTS, replace(INTEGER, placement="inputs")):
        q = quantize(Nearest(), net, given, scheme)
        assert off(q.fake()(scale, x), expected) < RIGHT
        whole_way(q, Network.of(model, sample, output=0), scale, x, folder=tmp_path)
    assert set(linear_programs(q)) == {"fc"}
    with pytest.raises(Unsupported, match="takes one tensor of images or vectors"):
        quantize(Nearest(), net, given, INTEGER)
    with pytest.raises(BadInput, match="takes x, scale; the sample has images"):
        Network.of(model, {"images": x[:2]})


class Twice(nn.Module):
    """A pyramid's head on two levels, a layer under two names, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.alias = self.stem
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.head(self.stem(x) + self.alias(x.flip(1)))
        coarse = self.head(nn.functional.avg_pool2d(fine, 2))
        pooled = [self.norm(t).mean((2, 3)) for t in (fine, coarse)]
        return self.b(torch.relu(self.a(pooled[0]))) + pooled[1]


def test_shared_modules_become_modules_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Twice().eval(), images()
    nn.init.uniform_(model.norm.running_var, 0.5, 1.5)
    with pytest.raises(Unsupported, match="unshared=True"):
        made(model)
    net = Network.of(model, x[:2], unshared=True)
    assert sorted(i.name for i in net.layers) == [
        *("a", "alias", "b", "head.0", "head_use2.0", "stem")
    ]
    q = quantize(Nearest(), net, x, INTEGER)
    assert off(q.fake()(x), model(x)) < RIGHT
    assert off(executable(q)(x), model(x)) < RIGHT
    whole_way(q, Network.of(model, x[:2], unshared=True), x, folder=tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_converted_when_asked_for(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 5))
    half = model.eval().to(dtype)
    x = images().to(dtype)
    with pytest.raises(BadInput, match=r"float32: call model\.float\(\), or give float32=True"):
        Network.of(half, x[:2])
    net = Network.of(half, x[:2], float32=True)
    for scheme in (WEIGHTS, INTEGER):
        q = quantize(Nearest(), net, x.float(), scheme)
        assert half[0].weight.dtype == dtype
        with torch.no_grad():
            assert off(q.fake()(x.float()), half(x).float()) < 2 * RIGHT
        whole_way(q, Network.of(half, x[:2], float32=True), x.float(), folder=tmp_path)
