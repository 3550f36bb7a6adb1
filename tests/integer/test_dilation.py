"""Dilated, strided and unevenly padded convolutions, tap by tap, on every executor of ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.integer import oracle
from quantbench.integer.backends.intmm import IntMM
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Conv, Program
from quantbench.integer.simulate import Simulation
from tests.helpers.chains import Chain, same

PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


def sums(op: Conv, x: np.ndarray, zero: int) -> np.ndarray:
    """Accumulators int64 (N, O, OH, OW): each tap moves the whole image."""
    n, c, h, w = x.shape
    outs, per_group, kh, kw = op.weight.shape
    top, left, bottom, right = op.pads
    d = np.zeros((n, c, top + h + bottom, left + w + right), np.int64)
    d[:, :, top : top + h, left : left + w] = x.astype(np.int64) - zero
    _, oh, ow = op.output_shape([(c, h, w)])
    acc = np.broadcast_to(op.bias.astype(np.int64)[:, None, None], (n, outs, oh, ow)).copy()
    for o in range(outs):
        first = o // (outs // op.groups) * per_group
        v = op.weight[o].astype(np.int64) - int(op.weight_zero[o])
        for i, a, b in np.ndindex(per_group, kh, kw):
            rows = slice(a * op.dilation[0], None, op.stride[0])
            columns = slice(b * op.dilation[1], None, op.stride[1])
            acc[:, o] += v[i, a, b] * d[:, first + i, rows, columns][:, :oh, :ow]
    return acc


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(["dense", "depthwise", "grouped"]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    *(PAIR, PAIR, st.tuples(*[st.integers(0, 5)] * 4), st.integers(4, 24)),
)
def test_accumulators_are_those_of_taps(kind, kernel, stride, dilation, pads, channels):
    size = tuple((k - 1) * d + 1 + 3 for k, d in zip(kernel, dilation, strict=True))
    channels -= channels % 2
    groups = {"dense": 1, "depthwise": channels, "grouped": 2}[kind]
    chain = Chain((channels, *size), seed=channels)
    chain.conv("input", channels, 1, groups=groups, zero=3)
    rng = np.random.default_rng(channels)
    shape = (channels, channels // groups, *kernel)
    weight = rng.integers(-128, 128, shape).astype(np.int8)
    op = replace(chain.ops[0], weight=weight, stride=stride, dilation=dilation, pads=pads)
    f, x = chain.formats["input"], chain.images(2)
    program = Program(f, chain.shapes["input"], (op,))
    m = (np.float64(f.scale) * op.weight_scale / np.float64(op.out.scale)).astype(np.float32)
    t = sums(op, x, f.zero).astype(np.float32) * m[:, None, None]
    rounded = np.rint(t.clip(-1000, 1000)) + op.out.zero
    expected = rounded.clip(op.lo[:, None, None], op.hi[:, None, None]).astype(np.uint8)
    np.testing.assert_array_equal(oracle.run(program, x)[op.output], expected)
    got = Simulation(program).codes(torch.from_numpy(x))[op.output]
    np.testing.assert_array_equal(got.numpy(), expected)
    if IntMM("cpu").available() is None:
        product = IntMM("cpu").compile(program)
        np.testing.assert_array_equal(product.codes(x)[op.output], expected)
    if Native("").available() is None:
        same(program, x, threads=2)


@pytest.mark.skipif(Native("").available() is not None, reason=f"{Native('').available()}")
@pytest.mark.parametrize("dilation", [2, 4, 12])
def test_an_inverted_residual_with_dilation_keeps_every_code(dilation):
    """With the border that its depthwise windows reach into, wider than the image for the last."""
    chain = Chain((32, 9, 11), seed=dilation)
    x = chain.conv("input", 96)
    x = chain.conv(x, 96, 3, groups=96, dilation=dilation, pad=dilation)
    chain.conv(x, 32, residual="input")
    same(chain.program(), chain.images(3), threads=2)
