"""Our float convolution against torch's, in float64, at any shape; what it must leave to torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.integer.testing.sanitize import float_layer
from quantbench.quantization import conv3x3

OURS = "_ConvolutionBackward"
here = pytest.mark.skipif(
    conv3x3._native() is None, reason="no native kernels, or a processor that they have no code for"
)
shapes = st.tuples(
    st.integers(1, 5),
    st.sampled_from([16, 32, 48]),
    st.sampled_from([16, 32, 48]),
    st.integers(1, 9),
    st.integers(8, 21),
)


def drawn(seed: int, n: int, c: int, k: int, h: int, w: int) -> list[Tensor]:
    """Images, weight, bias, and what is added."""
    rng = torch.Generator().manual_seed(seed)
    sizes = (n, c, h, w), (k, c, 3, 3), (k,), (n, k, h, w)
    return [torch.randn(s, generator=rng).requires_grad_() for s in sizes]


def cl(t: Tensor) -> Tensor:
    """Channels last."""
    return t.contiguous(memory_format=torch.channels_last)


def exactly(x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None) -> Tensor:
    """Convolution and sum in float64."""
    y = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    return y if add is None else y + add.double()


@here
@settings(max_examples=60, deadline=None)
@given(
    shapes,
    st.booleans(),
    st.booleans(),
    st.sets(st.integers(0, 3), min_size=1),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 99),
)
def test_values_and_gradients(
    shape: tuple[int, ...], added: bool, relu: bool, which: set[int], threads: int, seed: int
) -> None:
    """As close to float64 as float32 gets, whoever asks for which gradient."""
    x, weight, bias, add = (t.requires_grad_(i in which) for i, t in enumerate(drawn(seed, *shape)))
    plus = add if added else None
    wanted = [t for t in (x, weight, bias, plus) if t is not None and t.requires_grad]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = conv3x3.conv3x3(cl(x), weight, bias, None if plus is None else cl(plus), relu=relu)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
        found = torch.autograd.grad(y, wanted, dy) if wanted else ()
    finally:
        torch.set_num_threads(before)
    assert not wanted or OURS in type(y.grad_fn).__name__
    sums = exactly(x, weight, bias, plus)
    size = exactly(x.abs(), weight.abs(), bias.abs(), None if plus is None else plus.abs())
    terms = 9 * x.shape[1] + 2  # each rounded once, in any order (Higham 2002, section 3.1)
    assert bool(
        ((y.double() - (sums.relu() if relu else sums)).abs() <= terms * 2.0**-24 * size).all()
    )
    dy = dy * (y > 0) if relu else dy
    true = torch.autograd.grad(sums, wanted, dy.double()) if wanted else ()
    for mine, exact in zip(found, true, strict=True):
        assert float((mine - exact).norm()) <= 1e-5 * float(exact.norm())


@here
def test_the_gradient_of_a_weight_alone() -> None:
    """What AdaRound's objective asks for."""
    x, weight, bias, dy = drawn(3, 3, 32, 16, 7, 11)
    y = exactly(x, weight, bias, None)
    for outputs, above in ((y, None), (y.relu(), cl(y.detach().relu().float()))):
        found = conv3x3.weight_gradient(cl(x).detach(), cl(dy).detach(), above)
        (true,) = torch.autograd.grad(outputs, weight, dy.detach().double(), retain_graph=True)
        assert found is not None
        assert float((found - true).norm()) <= 1e-5 * float(true.norm())


@here
def test_joined_has_the_bits_of_one_after_the_other() -> None:
    """So that a pass by steps can be checked against the network for equality."""
    x, weight, bias, add = (t.detach() for t in drawn(0, 3, 16, 32, 7, 19))
    x, add = cl(x), cl(add)
    apart = F.relu(conv3x3.conv3x3(x, weight, bias) + add)
    assert torch.equal(conv3x3.conv3x3(x, weight, bias, add, relu=True), apart)


@here
def test_what_follows_may_overwrite_the_output() -> None:
    """As torchvision's residual blocks do."""
    x, weight, bias, add = drawn(0, 2, 16, 16, 4, 8)
    y = conv3x3.conv3x3(cl(x), weight, bias)
    y += add
    (found,) = torch.autograd.grad(y.square().sum(), weight)
    (true,) = torch.autograd.grad(exactly(x, weight, bias, add).square().sum(), weight)
    assert torch.allclose(found, true, rtol=1e-4, atol=1e-3)


@here
def test_nan_goes_on_through_the_relu() -> None:
    """Passes that start in the middle of a network look for it."""
    x, weight, bias, _ = (t.detach() for t in drawn(0, 1, 16, 16, 4, 8))
    x[0, 0, 0, 0] = torch.nan
    y = conv3x3.conv3x3(cl(x), weight, bias, relu=True)
    assert bool(y[0, :, :2, :2].isnan().all())
    assert not bool(y[0, :, 2:].isnan().any())


@here
@pytest.mark.parametrize("images", [1, 7, 8, 9, 32, 600])
def test_same_bits_for_any_number_of_threads(images: int) -> None:
    """Shares of images are the same whoever takes them, and added up in one order."""
    x, weight, bias, _ = drawn(1, images, 16, 32, 3, 9)
    x = cl(x.detach()).requires_grad_()
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        try:
            y = conv3x3.conv3x3(x, weight, bias, relu=True)
            found.append((y.detach(), *torch.autograd.grad(y.square().sum(), (x, weight))))
        finally:
            torch.set_num_threads(before)
    assert all(
        torch.equal(a, b) for again in found[1:] for a, b in zip(again, found[0], strict=True)
    )


@here
def test_every_instruction_set_of_this_machine_agrees_with_float64() -> None:
    """Not only the best one, which all other tests run."""
    module = conv3x3._native()
    sets = module.float_instruction_sets()
    assert sets[0] in ("avx512", "avx2")
    for isa in sets:
        for seed in range(20):
            float_layer(module, seed, isa)


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 2},
        {"padding": 0},
        {"dilation": 2},
        {"groups": 2},
        {"kernel_size": 1},
        {"in_channels": 24},
        {"out_channels": 8},
        {"in_channels": 256, "out_channels": 256},
    ],
    ids=str,
)
def test_other_layers_are_left_to_torch(change: dict[str, int]) -> None:
    """Only the shapes that our kernels are made for are theirs."""
    usual = {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1}
    assert conv3x3.fits(nn.Conv2d(**usual))
    assert not conv3x3.fits(nn.Conv2d(**(usual | change)))


@pytest.mark.parametrize("side", [3, 7, 8])
def test_other_tensors_are_left_to_torch(side: int) -> None:
    """float64, images as narrow as a filter, another memory layout, no batch, autocast."""
    x, weight, bias, add = drawn(0, 2, 16, 16, side, side)
    last = cl(x) if side < conv3x3.NARROWEST else cl(x).double()
    cases = (x, weight, bias), (last, weight.to(last), bias.to(last)), (x[0], weight, bias)
    for case in cases:
        y = conv3x3.conv3x3(*case)
        assert OURS not in type(y.grad_fn).__name__
        assert torch.allclose(y, F.conv2d(*case, padding=1), atol=1e-5)
    assert torch.allclose(
        conv3x3.conv3x3(x, weight, bias, add, relu=True),
        exactly(x, weight, bias, add).relu().float(),
        atol=1e-5,
    )
    assert conv3x3.weight_gradient(x.detach(), add.detach()) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3.conv3x3(cl(x), weight, bias, cl(add), relu=True).dtype == torch.float32
        assert conv3x3.conv3x3(cl(x), weight, bias).dtype == torch.bfloat16


def test_odd_summands_biases_and_defaults() -> None:
    """A sum that broadcasts or lies otherwise, a strided bias, defaults that are not float32."""
    x, weight, bias, add = drawn(0, 2, 16, 16, 4, 8)
    strided = bias.repeat_interleave(2)[::2]
    for other in (add, add[:1], add[:, :, :1, :1]):
        y = conv3x3.conv3x3(cl(x), weight, strided, other, relu=True)
        assert torch.allclose(y, exactly(x, weight, bias, other).relu().float(), atol=1e-5)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert conv3x3.conv3x3(cl(x), weight, bias).dtype == torch.float32
    finally:
        torch.set_default_dtype(usual)


def zeros(shape: tuple[int, ...], *names: str) -> dict[str, Any]:
    """Arguments of the extension."""
    return {name: np.zeros(shape, np.float32) for name in names}


def refuses(function: str, right: dict[str, Any], changed: dict[str, Any]) -> None:
    """A function of the extension takes the right arguments, and not with some of them changed."""
    call = getattr(conv3x3._native(), function)
    call(**right, threads=1)
    with pytest.raises((ValueError, TypeError)):
        call(**(right | {"threads": 1} | changed))


@here
@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.zeros((1, 4, 8, 24), np.float32)},
        {"x": np.zeros((4, 8, 16), np.float32)},
        {"x": np.zeros((1, 4, 8, 16), np.float64)},
        {"filter": np.zeros((3, 3, 16, 8), np.float32)},
        {"y": np.zeros((1, 4, 7, 16), np.float32)},
        {"bias": np.zeros(8, np.float32)},
        {"add": np.zeros((1, 4, 8, 32), np.float32)},
        {"bias": np.zeros(16)},
        {"threads": 0},
        {"isa": "sse2"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_extension_refuses_what_does_not_fit(changed: dict[str, Any]) -> None:
    """No kernel sees a wrong shape."""
    arrays = zeros((1, 4, 8, 16), "x", "y") | zeros((3, 3, 16, 16), "filter")
    refuses("float_conv", arrays | {"bias": None, "add": None, "relu": False}, changed)


@here
@pytest.mark.parametrize(
    "changed",
    [
        {"dy": np.zeros((1, 4, 7, 16), np.float32)},
        {"dy": np.zeros((4, 8, 16), np.float32)},
        {"y": np.zeros((1, 4, 8, 32), np.float32)},
        {"y": np.zeros((1, 4, 8, 16))},
        {"turned": None},
        {"dx": None},
        {"turned": np.zeros((3, 3, 16, 8), np.float32)},
        {"dx": np.zeros((2, 4, 8, 16), np.float32)},
        {"dfilter": np.zeros((3, 3, 32, 16), np.float32)},
        {"isa": "sse2"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_its_derivative_does_so_too(changed: dict[str, Any]) -> None:
    """No kernel sees a wrong shape."""
    arrays = zeros((1, 4, 8, 16), "x", "dy", "y", "dx") | zeros((3, 3, 16, 16), "turned", "dfilter")
    refuses("float_conv_back", arrays, changed)
