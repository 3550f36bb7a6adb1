"""Linear layers on integers inside networks that stay in floats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput, Unsupported
from quantbench.integer import oracle as reference
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Program
from quantbench.integer.lowering.linears import IntegerLinear, Run, linear_programs, on_integers
from quantbench.integer.simulate import Simulation
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme

W8A8 = Scheme(Grid(8, per_channel=True), Grid(8, symmetric=False, range="minmax"))


class Attention(nn.Module):
    """One head over tokens that are looked up by number: tensors are multiplied by each other."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.qkv = nn.Embedding(20, 24), nn.Linear(24, 72)
        self.mix, self.last = nn.Linear(24, 24), nn.Linear(24, 5)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(self.words(ids)).chunk(3, -1)
        weights = (q @ k.mT / 24**0.5).masked_fill(mask[:, None] == 0, -1e9).softmax(-1)
        return self.last(F.gelu(self.mix(weights @ v)))


def made(scheme: Scheme = W8A8) -> tuple[Quantized, tuple[Tensor, Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Attention().eval()
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(0, 20, (16, 7), generator=rng), torch.randint(0, 2, (16, 7), generator=rng)
    x[1][:, 0] = 1
    return quantize(Nearest(), Network.of(model, tuple(t[:2] for t in x)), x, scheme), x


def oracle(_: str, program: Program) -> Run:
    return lambda x: reference.run(program, x)[program.output].reshape(len(x), -1)


def simulation(_: str, program: Program) -> Run:
    run = Simulation(program)
    return lambda x: run(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_every_executor_gives_the_same_bits(bits: int) -> None:
    q, x = made(replace(W8A8, weights=Grid(bits, per_channel=True)))
    assert set(linear_programs(q)) == {"qkv", "mix", "last"}
    expected = on_integers(q, oracle)(*x)
    assert torch.equal(on_integers(q, simulation)(*x), expected)
    if Native().available() is None:
        assert torch.equal(on_integers(q, lambda _, p: Native().compile(p))(*x), expected)
    # Biases are rounded to half a step of the accumulator, and inputs near a tie may go either way
    # by one step.
    step = max(float(a.scale) for a in q.act_quants().values())
    assert (q.fake()(*x) - expected).abs().max() < step


def test_the_quantized_network_is_left_alone() -> None:
    q, x = made()
    before = q.fake()(*x)
    on_integers(q, oracle)
    assert torch.equal(q.fake()(*x), before)


def test_what_cannot_run_says_why() -> None:
    with pytest.raises(Unsupported, match="no linear layer with quantized inputs"):
        linear_programs(made(replace(W8A8, acts=None))[0])
    with pytest.raises(Unsupported, match="'qkv': inputs on levels that are not evenly spaced"):
        linear_programs(made(replace(W8A8, acts=Grid(4, "apot", symmetric=False)))[0])
    layer = IntegerLinear(lambda x: x[:, :, 0, 0])
    assert np.array_equal(layer(torch.ones(2, 3, 4)), np.ones((2, 3, 4)))
    with pytest.raises(BadInput, match="float64"):
        layer(torch.ones(2, 3, dtype=torch.float64))


def test_a_whole_text_network_is_no_integer_program() -> None:
    with pytest.raises(
        Unsupported,
        match=r"not inputs of shapes \(2, 7\), \(2, 7\); .*linears runs the linear layers",
    ):
        made(replace(W8A8, placement="integer"))
