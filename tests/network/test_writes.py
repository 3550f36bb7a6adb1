"""Networks that write into tensors in place, through views and into what they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.integer.lowering.lower import executable, lower
from quantbench.network.network import Network
from tests.network.test_any_network import INTEGER, RIGHT, WEIGHTS, images, made, off
from tests.network.test_users import Does
from tests.network.whole_way import whole_way


def _normalizes(own: Any, x: Tensor) -> Tensor:
    for i, mean in enumerate((0.4, 0.5, 0.6)):
        x[:, i].sub_(mean).div_(0.2)
    return own.conv(x)


def _through_a_view(own: Any, x: Tensor) -> Tensor:
    x.view(x.size(0), -1)[:, :40] *= 2
    return own.conv(x)


def _adds_to_a_part(own: Any, x: Tensor) -> Tensor:
    x[:, 0] += 1
    return own.conv(x)


def _scales_a_part(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    y[:, 0].mul_(3.0)
    return y


def _adds_halves(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    first, second = y.chunk(2, 1)
    first.add_(second)
    y += 1
    return torch.cat([y, second], 1)[:, 4:]


def _turned(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    y.transpose(1, 2)[:, 0] += 2
    return y


def _copies(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    z = torch.empty_like(y)
    z.copy_(y)
    z[:, 1:3].copy_(y[:, 5:7])
    return z


def _into(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    z = torch.empty_like(y)
    torch.add(y, 1, out=z)
    return z


def _clamps_what_is_read_again(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x) - 0.2
    return F.relu(y, inplace=True) + y


def _swaps_halves(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    first, second = y[:, :4], y[:, 4:]
    first = first.clone()
    second.mul_(3)
    return torch.cat([y[:, 4:], first], 1)


def _along_a_diagonal(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    y.diagonal(dim1=2, dim2=3).fill_(1.0)
    return y


def _of_another_layout(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x).contiguous(memory_format=torch.channels_last)
    y.permute(0, 2, 3, 1).reshape(-1, 8)[:, 0].zero_()  # rows of pixels, where they lie in memory
    return y


def _past_gradients(own: Any, x: Tensor) -> Tensor:
    y = own.conv(x)
    y.detach()[:, 0] = 0
    return y


WRITES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "channels of the input, normalized": _normalizes,
    "a view of the input": _through_a_view,
    "a part of the input": _adds_to_a_part,
    "a part": _scales_a_part,
    "halves that are read again": _adds_halves,
    "a part of a view that is turned": _turned,
    "copies": _copies,
    "a result that is given": _into,
    "an activation in place": _clamps_what_is_read_again,
    "halves that change places": _swaps_halves,
    "rows of pixels": _of_another_layout,
    "a part of what has no gradient": _past_gradients,
}


def network(function: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    first = Does(function, conv=nn.Conv2d(3, 8, 3))
    return Ends(first).eval()


class Ends(nn.Module):
    """A network that begins with what writes: the network's own input reaches it."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.fc = first, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.first(x)).mean((2, 3)))


@pytest.mark.parametrize("what", WRITES)
def test_writes_into_parts_are_what_they_are_in_torch(what: str, tmp_path: Path) -> None:
    model, x = network(WRITES[what]), images()
    with torch.no_grad():
        expected = model(images())
    for scheme in (WEIGHTS, INTEGER):
        q = made(model, scheme, x)
        assert off(q.fake()(x), expected) < RIGHT
    assert torch.equal(x, images())  # calibration data stay what they are
    for n in (1, 5):
        assert off(executable(q)(x[:n]), expected[:n]) < 2 * RIGHT
    whole_way(q, Network.of(model, images(2)), x, folder=tmp_path)


def test_a_write_that_no_exporter_follows_is_right_but_for_its_file(tmp_path: Path) -> None:
    model, x = network(_along_a_diagonal), images()
    q = made(model, INTEGER, x)
    assert off(executable(q)(x), model(x)) < RIGHT
    with pytest.raises(Unsupported, match="ONNX Runtime's result differs from torch's"):
        save_onnx(lower(q), tmp_path / "writes.onnx")


def test_a_write_that_the_module_around_has_to_see_is_refused() -> None:
    def writes(_: Any, y: Tensor) -> None:
        y[:, :2] += 1

    def around(own: Any, x: Tensor) -> Tensor:
        y = own.conv(x)
        own.inner(y)
        return y

    model = network(around)
    model.first.inner = Does(writes)
    q = made(model, WEIGHTS)
    assert off(q.fake()(images()), model(images())) < RIGHT
    with pytest.raises(Unsupported, match=r"reads first\.conv.* after it was changed in place"):
        executable(made(model, INTEGER))


def test_a_graph_that_writes_into_its_input_is_refused() -> None:
    class Adds(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](x.add_(1))

    model = torch.fx.symbolic_trace(Adds(nn.Conv2d(3, 8, 3)))
    with pytest.raises(BadInput, match=r"GraphModule that writes into its input: clone it"):
        Network.of(model, images(2))
