"""Programs of torch.export, brought as modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.lowering.lower import executable
from quantbench.network.network import Network
from tests.network.test_any_network import INTEGER, RIGHT, Sized, cnn, images, made, off
from tests.network.whole_way import whole_way


def exported(model: nn.Module, x: Tensor, *, fixed: bool = False) -> nn.Module:
    sizes = None if fixed else ({0: torch.export.Dim("N")},)
    return torch.export.export(model, (x,), dynamic_shapes=sizes).module()


def _shared() -> nn.Module:
    conv = nn.Conv2d(8, 8, 1)
    return cnn(nn.Conv2d(3, 8, 3), conv, nn.ReLU(), conv)


PROGRAMS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "layers": (
        lambda: cnn(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(inplace=True), nn.Dropout()),
        ["0", "6"],
    ),
    "sizes": (Sized, ["conv", "fc"]),
    "shared layers": (_shared, ["0", "3", "3_use2", "6"]),
    "transposed": (lambda: cnn(nn.ConvTranspose2d(3, 8, 2, 2), nn.SiLU()), ["0", "4"]),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_an_exported_program_has_its_layers_again(what: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, names = PROGRAMS[what]
    model, x = make().eval(), images()
    program = exported(model, x)
    q = made(program, INTEGER, x)
    assert [i.name for i in q.net.layers] == names
    for run in (q.fake(), executable(q)):
        assert off(run(x), model(x)) < RIGHT
        torch.testing.assert_close(run(x[:1]), run(x)[:1])
    whole_way(q, Network.of(program, x[:2]), x, folder=tmp_path)


class InTwos(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(288, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(2, -1))


def test_programs_that_are_none_of_a_network_say_why() -> None:
    torch.manual_seed(0)
    model, x = cnn(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), images(2)
    with pytest.raises(BadInput, match=r"was exported in training mode: export model\.eval"):
        Network.of(exported(model.train(), x), x)
    program = torch.export.export(model.eval(), (x,)).run_decompositions().module()
    with pytest.raises(BadInput, match=r"taken apart into .*convolution: .* before run_decom"):
        Network.of(program, x)
    with pytest.raises(BadInput, match=r"does not run on its sample of shapes \(3, 3, 8, 8\)"):
        Network.of(exported(model, x, fixed=True), images(3))
    with pytest.raises(Unsupported, match="does not take 1 examples at a time, nor 2 and 3"):
        made(InTwos().eval(), INTEGER, x)
