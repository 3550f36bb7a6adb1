"""Layers whose channels are last, constants for each position, orders and parts of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.base import backend
from quantbench.integer.ir import Format, Island, Program, Rearrange
from quantbench.integer.lowering.lower import executable, lower
from quantbench.integer.validate import validate
from tests.helpers.lowered import W4A4, W8A8, exact, follows_fake, images, kinds, made


def islands(program: Program) -> list[str]:
    return [op.reason for op in program.ops if isinstance(op, Island)]


class Forward(nn.Module):
    """A function of a tensor, as a module."""

    def __init__(self, function, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def tokens(net: Forward, x: Tensor) -> Tensor:
    """Linear layers of (N, T, C), with a shortcut; then the mean of all tokens."""
    t = net.patches(x).flatten(2).transpose(1, 2) + net.positions
    t = t + net.down(F.gelu(net.up(t))) * net.gamma
    return net.head(t.mean(1))


def token_network() -> Forward:
    return Forward(
        tokens,
        patches=nn.Conv2d(3, 8, 4, 4),
        positions=nn.Parameter(torch.randn(1, 9, 8)),
        up=nn.Linear(8, 20),
        down=nn.Linear(20, 8),
        gamma=nn.Parameter(torch.rand(8) - 0.5),
        head=nn.Linear(8, 5),
    )


@pytest.mark.parametrize("scheme", [W8A8, W4A4], ids=str)
def test_layers_of_tokens_run_on_integers(scheme) -> None:
    torch.manual_seed(0)
    q = made(token_network(), scheme)
    program = exact(q, n=3)
    assert islands(program) == []
    # four layers, one of the positions, and the scale, which takes the shortcut in
    assert (kinds(program)["Conv"], kinds(program)["Conv+add"]) == (5, 1)
    if scheme is W8A8:
        follows_fake(q, program)


def test_images_with_their_channels_last() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        y = net.first(x).permute(0, 2, 3, 1)
        y = F.relu(net.inside(y)) * y.mean((1, 2), keepdim=True)
        return net.last(y.permute(0, 3, 1, 2)).mean((2, 3))

    parts = {"first": nn.Conv2d(3, 8, 3), "inside": nn.Linear(8, 8), "last": nn.Conv2d(8, 4, 1)}
    q = made(Forward(forward, **parts))
    program = exact(q)
    assert islands(program) == []
    follows_fake(q, program)


ORDERS = {
    "shuffle": lambda x: x.view(len(x), 2, 4, 10, 10).transpose(1, 2).reshape(x.shape),
    "rows and columns": lambda x: x.mT,
    "pixels": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
    "last half": lambda x: torch.cat([x[..., 5:], x[..., :5]], -1),
    "rows split": lambda x: torch.cat(x.split([3, 7], 2)[::-1], dim=2),
    "one row": lambda x: x * x[:, :, 1:2],
    "swapped": lambda x: x.swapaxes(1, 3).movedim(3, 1),
    "unflatten": lambda x: x.unflatten(1, (4, 2)).permute(0, 2, 1, 3, 4).flatten(1, 2),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_no_island(name: str) -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        return net.last(ORDERS[name](F.relu(net.first(x))))

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 4, 3)))
    program = exact(q, n=3)
    assert islands(program) == []
    follows_fake(q, program)


def test_one_token_of_many() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        return net.head(net.patches(x).flatten(2).mT[:, -1])

    q = made(Forward(forward, patches=nn.Conv2d(3, 8, 4, 4), head=nn.Linear(8, 5)))
    program = exact(q)
    assert islands(program) == []
    follows_fake(q, program)


def test_what_a_layer_of_tokens_gives_at_the_end_is_not_rounded() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        return net.head(net.patches(x).flatten(2).mT)

    q = made(Forward(forward, patches=nn.Conv2d(3, 8, 4, 4), head=nn.Linear(8, 5)))
    program = lower(q)  # floats of matrix products are not the same twice
    assert islands(program) == ["what the network gives is not rounded to codes"]
    x = images(3, 3, 12, 12)
    assert executable(q)(x).shape == (3, 9, 5)
    assert (executable(q)(x) - q.fake()(x)).norm() < 0.02 * q.fake()(x).norm()


def test_masks_and_numbers_of_tokens_are_no_codes() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        y = net.first(x)
        mask = (y > 0).flatten(2).mT
        return net.last(y.masked_fill(mask.mT.reshape(y.shape), 0.5))

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 4, 1)))
    assert len(islands(exact(q))) == 1


def test_a_tiny_number_that_keeps_a_quotient_finite_is_not_rounded_away() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        y = F.relu(net.first(x))
        return net.last(y / (y.amax(1, keepdim=True) * 0 + 1e-6))

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 4, 1)))
    program = exact(q)
    assert torch.isfinite(executable(q)(images(2, 3, 12, 12))).all()
    assert len(islands(program)) == 1


def test_parts_between_two_islands_are_not_rounded() -> None:
    """A quotient of two parts of one product: codes of one scale would be too coarse for it."""

    def forward(net: Forward, x: Tensor) -> Tensor:
        y = F.relu(net.first(x)).flatten(2)
        product = y @ y.mT
        return net.last((product[..., :-1] / (product[..., -1:] + 1e-3)).mT.flatten(1))

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Linear(56, 4)))
    program = lower(q)
    assert len(islands(program)) == 1
    assert all("product" not in name for name in q.act_quants())


def test_a_network_that_reads_the_sizes_of_its_layers() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        (h, w), (a, b) = net.first.kernel_size, net.first.stride
        return net.last(net.first(F.pad(x, (0, w - b, 0, h - a)))).reshape(
            -1, net.last.out_channels * 144
        )

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 4, 1)))
    follows_fake(q, exact(q))


def test_a_padding_below_all_numbers_is_the_pools() -> None:
    def forward(net: Forward, x: Tensor) -> Tensor:
        y = F.pad(net.first(x), (0, 1, 1, 1), value=-torch.inf)
        return net.last(F.max_pool2d(y, 3, 2))

    q = made(Forward(forward, first=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 4, 1)))
    program = exact(q)
    assert kinds(program) == {"Conv": 2, "MaxPool": 1}
    follows_fake(q, program)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_an_order_is_brute_force_on_every_executor(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    axes = data.draw(st.permutations(range(len(sizes))))
    total = int(np.prod(sizes))
    c = data.draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    f = Format(0.1, 7)
    given_: dict = {"split": tuple(sizes), "axes": tuple(axes), "into": (c, total // c, 1)}
    op = Rearrange(name="r", inputs=("input",), output="y", out=f, **given_)
    program = Program(f, (total, 1, 1), (op,))
    x = np.random.default_rng(0).integers(0, 256, (2, total, 1, 1)).astype(np.uint8)
    right = np.zeros((2, total), np.uint8)
    order = [sizes[a] for a in axes]
    for i, to in enumerate(np.ndindex(*order)):
        at = [0] * len(sizes)
        for position, a in zip(to, axes, strict=True):
            at[a] = position
        right[:, i] = x[:, np.ravel_multi_index(at, sizes), 0, 0]
    np.testing.assert_array_equal(oracle.run(program, x)["y"].reshape(2, -1), right)
    for name in ("native", "simulation"):
        runs = backend(name)
        if runs.available() is None:
            np.testing.assert_array_equal(runs.compile(program)(x), right)


@pytest.mark.parametrize(
    ("field", "value"),
    [("split", (5, 4)), ("split", []), ("axes", (0, 0)), ("axes", (1,)), ("into", (3, 4, 0))],
)
def test_an_order_of_other_values_is_refused_by_name(field: str, value: object) -> None:
    f = Format(0.1, 7)
    sound = {"split": (3, 4), "axes": (1, 0), "into": (4, 3, 1)}
    op = Rearrange(name="r", inputs=("input",), output="y", out=f, **{**sound, field: value})
    with pytest.raises(BadInput, match="Rearrange 'r': "):
        validate(Program(f, (3, 4, 1), (op,)))
