"""Orders of tensors where a mistake would be quiet: paddings, parts, ranks, views, sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.base import backend
from quantbench.integer.ir import Format, Program, Rearrange
from quantbench.integer.lowering.lower import lower
from quantbench.integer.validate import validate
from tests.helpers.lowered import W7A8, exact, follows_fake, images, kinds, made
from tests.integer.lowering.test_order import Forward, islands


def test_a_volume_of_many_values() -> None:
    """More than 65,536 of them, which no single direction may have."""

    def forward(net: Forward, x: Tensor) -> Tensor:
        y = net.volume(x.reshape(-1, 1, 4, 32, 32)).relu()
        return net.last(y.flatten(1, 2)).flatten(1)

    volume = nn.Conv3d(1, 20, 3, padding=1)
    q = made(Forward(forward, volume=volume, last=nn.Conv2d(80, 2, 8, 8)), shape=(4, 32, 32))
    program = exact(q)
    assert islands(program) == []


@pytest.mark.parametrize("pads", [(0, 0, 0, 2), (0, 0, 1, 0), (0, 0, 0, 0, 1, 1)], ids=str)
def test_paddings_before_layers_whose_channels_are_last(pads: tuple[int, ...]) -> None:
    """They pad what they say, not the rows of the convolution that the layer becomes."""

    def forward(net: Forward, x: Tensor) -> Tensor:
        y = net.first(x).permute(0, 2, 3, 1)
        return net.last(F.pad(y, pads)).mean((1, 2))

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Linear(8, 4)))
    follows_fake(q, exact(q))


@pytest.mark.parametrize("by", ["lines", "columns", "both"])
def test_every_other_one_is_a_stride(by: str) -> None:
    index = {
        "lines": (slice(None), slice(None), slice(None, None, 2)),
        "columns": (Ellipsis, slice(None, None, 2)),
        "both": (slice(None), slice(None), slice(None, None, 2), slice(None, None, 2)),
    }[by]
    last = nn.Conv2d(8, 4, 1)
    q = made(
        Forward(lambda net, x: net.last(net.first(x)[index]), first=nn.Conv2d(3, 8, 3), last=last)
    )
    program = exact(q)
    assert "Rearrange" not in kinds(program)
    follows_fake(q, program)


def test_a_pool_with_gaps_behind_a_padding_below_all_numbers() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        y = F.pad(net.first(x).relu(), (1, 1, 1, 1), value=-torch.inf)
        return net.last(F.max_pool2d(y, 3, 1, 0, 2)).flatten(1)

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 4, 8)))
    program = lower(q)
    x = images(2, 3, 12, 12)
    logits = torch.from_numpy(oracle.run(program, x.numpy())[program.output]).reshape(2, 4)
    expected = q.fake()(x)
    assert (logits - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("where", ["before", "behind"])
def test_shortcuts_of_another_rank(where: str) -> None:
    """A sum is with the operand as it is added, not as its source was."""

    def forward(net: Forward, x: Tensor) -> Tensor:
        t = net.first(x).flatten(2).transpose(1, 2)  # (N, T, C)
        if where == "before":
            y = net.down(t.unsqueeze(2)) + t.unsqueeze(2)
            return net.last(y.squeeze(2).mean(1))
        u = net.middle(t.unsqueeze(2))
        return net.last((net.down(t) + u.squeeze(2)).mean(1))

    parts = {"first": nn.Conv2d(3, 8, 4, 4), "down": nn.Linear(8, 8), "last": nn.Linear(8, 4)}
    if where == "behind":
        parts["middle"] = nn.Linear(8, 8)
    q = made(Forward(forward, **parts))
    follows_fake(q, exact(q))


def test_a_shortcut_that_is_read_again_keeps_its_values() -> None:
    """Called, not asked for its codes: runtimes that add in place must not write through views."""

    def forward(net: Forward, x: Tensor) -> Tensor:
        y = F.layer_norm(net.first(x).flatten(2).transpose(1, 2), (8,)).unsqueeze(2)
        z = y + net.down(net.up(y).relu())
        return net.last(torch.cat([z, y], -1).mean((1, 2)))

    parts = {"up": nn.Linear(8, 16), "down": nn.Linear(16, 8), "last": nn.Linear(16, 4)}
    program = lower(made(Forward(forward, first=nn.Conv2d(3, 8, 4, 4), **parts), W7A8))
    x = images(3, 3, 12, 12).numpy()
    expected = oracle.run(program, x)[program.output].reshape(3, 4)
    for name in ("native", "onednn", "intmm"):
        runs = backend(name)
        if runs.available() is None:
            got = torch.from_numpy(runs.compile(program, threads=1)(x))
            off = (got - torch.from_numpy(expected)).norm() / torch.from_numpy(expected).norm()
            assert off < 0.02, name


@pytest.mark.parametrize("count", [0, 17, 80, 100_000])
def test_a_damaged_order_has_too_many_directions(count: int) -> None:
    f = Format(0.1, 7)
    split, axes = (1,) * max(count - 1, 0) + (8,) * (count > 0), tuple(range(count))
    common: dict = {"name": "r", "inputs": ("input",), "output": "y", "out": f}
    op = Rearrange(**common, split=split, axes=axes, into=(8, 1, 1))
    with pytest.raises(BadInput, match="directions, of 1 to 16"):
        validate(Program(f, (8, 1, 1), (op,)))
