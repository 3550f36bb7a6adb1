"""Small networks, quantized and lowered, and what must hold of every program."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from quantbench.integer import oracle
from quantbench.integer.ir import Conv, Island, Program
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.method import quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme

W8A8 = Scheme(
    Grid(8, per_channel=True, range="minmax"), Grid(8, range="minmax"), placement="integer"
)
# without VNNI oneDNN and others saturate sums of two products; of 7-bit weights none can
W7A8 = replace(W8A8, weights=replace(W8A8.weights, bits=7))
W4A4 = replace(
    W8A8, weights=replace(W8A8.weights, bits=4), acts=Grid(4, range="minmax"), first_last_bits=8
)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def randomize(model: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=rng) / 10
            module.running_var = torch.rand(module.num_features, generator=rng) + 0.5
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            module.weight.data = torch.randn(module.weight.shape, generator=rng) * (2 / fan) ** 0.5
            if module.bias is not None:
                module.bias.data = torch.randn(module.bias.shape, generator=rng) / 10
    return model.eval()


def made(
    model: nn.Module, scheme: Scheme = W8A8, shape: tuple[int, ...] = (3, 12, 12)
) -> Quantized:
    x = images(16, *shape)
    return quantize(Nearest(), Network.of(randomize(model), x[:1]), x, scheme)


def exact(q: Quantized, n: int = 2) -> Program:
    """The program, after its simulation and the oracle agree on every tensor.

    On floats of an island up to float32's rounding: torch adds in the order of its vectors.
    """
    program = lower(q)
    x = images(n, *program.shape)
    expected, got = oracle.run(program, x.numpy()), Simulation(program).codes(x)
    floats = {op.output for op in program.ops if isinstance(op, Island) and op.out is None}
    for name, value in expected.items():
        if name in floats:
            np.testing.assert_allclose(got[name].numpy(), value, 1e-4, 1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(got[name].numpy(), value, err_msg=name)
    return program


def kinds(program: Program) -> Counter[str]:
    fused = {op.output for op in program.ops if isinstance(op, Conv) and len(op.inputs) > 1}
    return Counter(type(op).__name__ + "+add" * (op.output in fused) for op in program.ops)


def follows_fake(q: Quantized, program: Program, *, share: float = 0.01) -> None:
    """The float simulation makes the same codes.

    It is led along the program's own codes, so that roundings do not add up.

    A share may differ by one step: the integer network rounds the bias to int32 and the scale's
    ratio to float32, so a value within about 0.001 steps of a tie may go the other way; a fixed
    share is far from what a wrong layer gives.
    """
    x = images(2, *program.shape)
    got, formats, compared = Simulation(program).codes(x), program.formats, []

    def lead(act: ActQuant, name: str, given: Tensor) -> Tensor | None:
        if name not in got:
            return None  # the network input, which the program calls "input"
        f = formats[name]
        assert f is not None
        codes = got[name].reshape(given.shape).float() - f.zero + act.zero
        expected = act.qparams.quantize(given)
        levels = torch.tensor(act.levels, dtype=torch.float32)
        ours, theirs = (torch.searchsorted(levels, c.contiguous()) for c in (codes, expected))
        assert (ours - theirs).abs().max() <= 1, name
        assert (ours != theirs).sum() <= max(2, share * codes.numel()), name
        compared.append(name)
        return act.qparams.dequantize(codes)

    handles = [
        act.register_forward_hook(lambda act, args, _, name=name: lead(act, name, args[0]))
        for name, act in q.act_quants().items()
    ]
    with torch.no_grad():
        q.model(x)
    for handle in handles:
        handle.remove()
    assert len(compared) == len(q.act_quants()) - 1
