"""Products of two activations: against fractions, on every executor, and what networks make of."""

from __future__ import annotations

from fractions import Fraction

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
from quantbench.integer.ir import AvgPool, Format, Island, Mul, Program, Select, Shape
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from quantbench.integer.validate import validate
from tests.helpers.lowered import W4A4, W8A8, exact, follows_fake, kinds, made


def product(f: Format, y: Format, shape: Shape, gate: Shape) -> Program:
    """The input's channels times some of them; ``gate`` is the second's shape."""
    kept = Select(name="s", inputs=("input",), output="g", out=f, channels=tuple(range(gate[0])))
    mul = Mul(name="m", inputs=("input", "g"), output="y", out=y)
    return Program(f, shape, (kept, mul))


@st.composite
def formats(draw: st.DrawFn) -> Format:
    lo = draw(st.integers(0, 40))
    hi = draw(st.integers(lo + 1, 255))
    scale = draw(st.floats(2.0**-10, 2.0**4, width=32))
    return Format(scale, draw(st.integers(lo, hi)), lo, hi)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(f=formats(), y=formats(), alone=st.booleans(), seed=st.integers(0, 1 << 20))
def test_a_product_is_the_real_one_rounded_once(
    f: Format, y: Format, alone: bool, seed: int
) -> None:
    shape = (17, 2, 3)
    program = product(f, y, shape, (1 if alone else 17, 2, 3))
    x = np.random.default_rng(seed).integers(f.lo, f.hi + 1, (2, *shape)).astype(np.uint8)
    tensors = oracle.run(program, x)
    a, b = x.astype(int), np.broadcast_to(tensors["g"], x.shape).astype(int)
    # multiplier and product are each rounded to 24 bits: an error of two parts in 2^24
    for p, q, code in zip(a.flat, b.flat, tensors["y"].flat, strict=True):
        real = Fraction(f.scale) ** 2 * (int(p) - f.zero) * (int(q) - f.zero) / Fraction(y.scale)
        low = round(real - abs(real) / 2**22) + y.zero
        high = round(real + abs(real) / 2**22) + y.zero
        assert min(max(low, y.lo), y.hi) <= code <= min(max(high, y.lo), y.hi)
    fast = Simulation(program).codes(torch.from_numpy(x))["y"]
    np.testing.assert_array_equal(fast.numpy(), tensors["y"])


@pytest.mark.parametrize("name", ["native", "intmm", "simulation", "onednn"])
@pytest.mark.parametrize("channels", [1, 15, 16, 33])
def test_every_shape_of_gate_in_every_order(name: str, channels: int) -> None:
    runs = backend(name)
    if why := runs.available():
        pytest.skip(why)
    f, y = Format(0.02, 100), Format(0.05, 30)
    x = np.random.default_rng(0).integers(0, 256, (3, channels, 4, 5)).astype(np.uint8)
    for gate in ((channels, 4, 5), (1, 4, 5), (channels, 1, 1), (channels, 1, 5), (1, 1, 1)):
        for order in ((0, 1), (1, 0)):
            program = gated(f, y, (channels, 4, 5), gate, order)
            right = oracle.run(program, x)["y"]
            assert right.shape == x.shape
            np.testing.assert_array_equal(runs.compile(program)(x), right.reshape(3, -1))


def gated(f: Format, y: Format, shape: Shape, gate: Shape, order: tuple[int, int]) -> Program:
    kept = Select(name="s", inputs=("input",), output="g", out=f, channels=tuple(range(gate[0])))
    window = tuple(n // m for n, m in zip(shape[1:], gate[1:], strict=True))
    pool = AvgPool(name="p", inputs=("g",), output="h", out=f, kernel=window, stride=window)
    inputs = [("input", "h")[i] for i in order]
    mul = Mul(name="m", inputs=tuple(inputs), output="y", out=y)
    return Program(f, shape, (kept, pool, mul))


def test_a_product_that_can_have_no_codes_is_refused_by_name() -> None:
    f = Format(0.1, 3)
    odd = product(f, f, (6, 4, 4), (2, 4, 4))
    with pytest.raises(BadInput, match=r"Mul 'm': multiplies shapes \(6, 4, 4\) and \(2, 4, 4\)"):
        validate(odd)
    tiny = product(Format(2.0**-60, 3), Format(2.0**10, 0), (6, 4, 4), (6, 4, 4))
    with pytest.raises(BadInput, match="Mul 'm': a ratio of scales is not in"):
        validate(tiny)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class Spatial(nn.Module):
    """One value a position, from the left; in place."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.mul(self.score(x).sigmoid(), x)


class Gated(nn.Module):
    """One half of the channels times the other; then the product with itself."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y = a * torch.tanh(b)
        return torch.cat([y * y, y], 1)


@pytest.mark.parametrize("scheme", [W8A8, W4A4], ids=str)
@pytest.mark.parametrize("inside", [lambda: SqueezeExcite(8), Spatial, Gated])
def test_gates_run_on_integers(inside, scheme) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), inside(), nn.Conv2d(8, 4, 1))
    q = made(model, scheme)
    program = exact(q, n=3)
    assert "Mul" in kinds(program)
    assert not [op.reason for op in program.ops if isinstance(op, Island)]
    if scheme is W8A8:  # of 4 bits a bias is rounded to few steps
        follows_fake(q, program)


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return F.relu(a * b) * b


def test_a_product_at_the_end_and_one_before_a_relu() -> None:
    program = exact(made(Product()))
    assert kinds(program)["Mul"] == 2
    assert kinds(program)["Dequantize"] == 1


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y * (y > 0))


def test_a_product_with_what_is_no_number_is_an_island() -> None:
    program = exact(made(Masked()))
    (island,) = (op for op in program.ops if isinstance(op, Island))
    assert island.reason == "a tensor has truth values, or whole or complex numbers"


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_efficientnet", "test_byobnet"])
def test_networks_with_gates_have_no_island_for_a_product(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval()
    program = lower(made(model, shape=(3, 64, 64)))
    assert kinds(program)["Mul"] > 0
    assert not [op.reason for op in program.ops if isinstance(op, Island)]
