"""The oracle against brute force, and the fast simulation against the oracle."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Concat,
    Conv,
    Format,
    MaxPool,
    Program,
    Select,
)
from quantbench.integer.simulate import Simulation
from quantbench.integer.testing import fuzz
from quantbench.integer.validate import validate
from tests.helpers.chains import Chain

SETTINGS = settings(max_examples=100, deadline=None, derandomize=True)


def drawn(data: st.DataObject) -> fuzz.Draw:
    return lambda lo, hi: data.draw(st.integers(lo, hi))


def half_even(value: np.float32) -> int:
    low = int(np.floor(value))
    rest = float(value) - low
    return low + (rest > 0.5 or (rest == 0.5 and low % 2 == 1))


def brute_conv(op: Conv, inputs: list[np.ndarray], formats: list[Format]) -> np.ndarray:
    """One number at a time, Python integers for the sums."""
    x, f = inputs[0], formats[0]
    (n, c, h, w), (outs, per_group, kh, kw) = x.shape, op.weight.shape
    _, oh, ow = op.output_shape([(c, h, w)])
    y = np.zeros((n, outs, oh, ow), np.float32 if op.out is None else np.uint8)
    for i, o, r, s in itertools.product(range(n), range(outs), range(oh), range(ow)):
        acc = int(op.bias[o])
        for j, a, b in itertools.product(range(per_group), range(kh), range(kw)):
            row = r * op.stride[0] + a * op.dilation[0] - op.pads[0]
            col = s * op.stride[1] + b * op.dilation[1] - op.pads[1]
            if 0 <= row < h and 0 <= col < w:
                code = int(x[i, o // (outs // op.groups) * per_group + j, row, col])
                acc += (code - f.zero) * (int(op.weight[o, j, a, b]) - int(op.weight_zero[o]))
        assert abs(acc) < 1 << 31
        product = np.float64(f.scale) * np.float64(op.weight_scale[o])
        if op.out is None:
            y[i, o, r, s] = np.float32(acc) * np.float32(product)
            continue
        t = np.float32(acc) * np.float32(product / np.float64(op.out.scale))
        if len(inputs) > 1:
            other = np.float32(int(inputs[1][i, o, r, s]) - formats[1].zero)
            t = np.float32(
                t + other * np.float32(np.float64(formats[1].scale) / np.float64(op.out.scale))
            )
        clamped = np.clip(np.float64(t), -1000, 1000)
        y[i, o, r, s] = min(max(half_even(clamped) + op.out.zero, int(op.lo[o])), int(op.hi[o]))
    return y


@SETTINGS
@given(st.data())
def test_convolution_is_its_definition(data: st.DataObject) -> None:
    draw = drawn(data)
    program = fuzz.any_program(draw, length=1, size=4)
    tensors = oracle.run(program, fuzz.codes(draw, program, 1))
    for op in program.ops:
        if isinstance(op, Conv):
            expected = brute_conv(
                op, [tensors[i] for i in op.inputs], [program.formats[i] for i in op.inputs]
            )
            np.testing.assert_array_equal(tensors[op.output], expected)


def test_one_narrow_channel_is_exact_in_any_layout() -> None:
    chain = Chain((1, 8, 1))
    chain.conv("input", 13, 3)
    weight = np.arange(-97, 98).reshape(13, 1, 5, 3).astype(np.int8)
    op = replace(chain.ops[0], weight=weight, pads=(2, 0, 2, 2), stride=(1, 2), dilation=(2, 1))
    program = Program(chain.formats["input"], (1, 8, 1), (op,))
    x = chain.images(3)
    given_codes = torch.empty_strided(x.shape, (8, 1, 1, 1), dtype=torch.uint8).copy_(
        torch.from_numpy(x)
    )
    got = Simulation(program).codes(given_codes)[op.output]
    np.testing.assert_array_equal(got.numpy(), oracle.run(program, x)[op.output])


@SETTINGS
@given(st.data())
def test_simulation_equals_reference_on_every_tensor(data: st.DataObject) -> None:
    draw = drawn(data)
    program = fuzz.any_program(draw, branching=True)
    x = fuzz.codes(draw, program, 2)
    expected = oracle.run(program, x)
    got = Simulation(program).codes(torch.from_numpy(x))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name].numpy(), value, err_msg=name)


def test_fuzz_reaches_every_operator_and_both_kinds_of_output() -> None:
    seen, inside = set(), []
    for seed in range(60):
        draw = fuzz.seeded(seed)
        program = fuzz.any_program(draw)
        tensors = oracle.run(program, fuzz.codes(draw, program, 1))
        for op in program.ops:
            seen.add(type(op).__name__ + "+" * (isinstance(op, Conv) and len(op.inputs) > 1))
            if isinstance(op, Conv) and op.out is not None:
                y = tensors[op.output]
                inside.append(((y > op.lo[:, None, None]) & (y < op.hi[:, None, None])).mean())
    assert seen == {
        "Conv",
        "Conv+",
        "Add",
        "Mul",
        "Concat",
        "MaxPool",
        "AvgPool",
        "LRN",
        "Lut",
        "Pad",
        "Select",
        "Rearrange",
        "Resize",
        "Flatten",
    }
    assert np.mean(np.array(inside) > 0.5) > 0.1  # enough layers mostly between their clamps,
    assert np.mean(np.array(inside) < 0.5) > 0.1  # and enough mostly at them


def one(op: object, f: Format, shape: tuple[int, int, int], x: np.ndarray) -> np.ndarray:
    program = Program(f, shape, (op,))
    validate(program)
    return oracle.run(program, x)[op.output]


def test_ties_go_to_even_and_clamps_hold() -> None:
    f = Format(0.5, 100)
    pool = Concat(name="c", inputs=("input",), output="y", out=Format(1.0, 100))
    x = np.array([97, 98, 99, 100, 101, 102, 103], np.uint8).reshape(1, 1, 1, 7)
    # of -1.5, -1, -0.5, 0, 0.5, 1 and 1.5 steps
    assert one(pool, f, (1, 1, 7), x).flatten().tolist() == [98, 99, 100, 100, 100, 101, 102]
    narrow = replace(pool, out=Format(1.0, 100, 99, 101))
    assert one(narrow, f, (1, 1, 7), x).flatten().tolist() == [99, 99, 100, 100, 100, 101, 101]


def test_float_rounding_of_large_accumulators() -> None:
    """2^24 + 1 is no float32: the definition rounds it before it multiplies."""
    acc = (1 << 24) + 1
    one_by_one = np.ones((1, 1, 1, 1), np.int8)
    op = Conv(
        name="c",
        inputs=("input",),
        output="y",
        out=None,
        weight=one_by_one,
        weight_zero=np.zeros(1, np.int16),
        weight_scale=np.ones(1, np.float32),
        bias=np.array([acc], np.int32),
        lo=np.zeros(1, np.uint8),
        hi=np.full(1, 255, np.uint8),
    )
    x = np.zeros((1, 1, 1, 1), np.uint8)
    assert one(op, Format(1.0, 0), (1, 1, 1), x).item() == float(1 << 24)
    assert Simulation(Program(Format(1.0, 0), (1, 1, 1), (op,)))(
        torch.from_numpy(x)
    ).item() == float(1 << 24)


@SETTINGS
@given(st.lists(st.integers(0, 20), min_size=1, max_size=40))
def test_select_is_a_copy_of_each_channel(channels: list[int]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 21, 3, 2)).astype(np.uint8)
    f = Format(0.1, 30)
    op = Select(name="s", inputs=("input",), output="y", out=f, channels=tuple(channels))
    got = one(op, f, (21, 3, 2), x)
    for i, c in enumerate(channels):
        np.testing.assert_array_equal(got[:, i], x[:, c])


@pytest.mark.parametrize("channels", [(), (21,), (-1,), (0.5,), [0], (True,)])
def test_select_of_channels_that_are_not_there_is_refused(channels: object) -> None:
    f = Format(0.1, 30)
    op = Select(name="s", inputs=("input",), output="y", out=f, channels=channels)
    with pytest.raises(BadInput, match=r"Select 's': (channels|.*shape)"):
        validate(Program(f, (21, 3, 2), (op,)))


@pytest.mark.parametrize("count_padding", [True, False])
def test_average_pool_is_torchs(count_padding: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 7, 7)).astype(np.uint8)
    f = Format(0.1, 30)
    op = AvgPool(
        name="a",
        inputs=("input",),
        output="y",
        out=f,
        kernel=(3, 3),
        stride=(2, 2),
        pads=(1, 1, 1, 1),
        count_padding=count_padding,
    )
    real = torch.from_numpy(x).double() - f.zero
    expected = (
        torch.nn.functional.avg_pool2d(real, 3, 2, 1, count_include_pad=count_padding) + f.zero
    )
    got = one(op, f, (3, 7, 7), x)
    # rounding to a code, and the float32 reciprocal
    assert np.abs(got - expected.numpy()).max() <= 0.5 + 1e-5


def test_lrn_is_torchs() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 9, 4, 4)).astype(np.uint8)
    f, y = Format(1.5, 20), Format(0.7, 25)
    op = LRN(name="l", inputs=("input",), output="y", out=y, size=5, alpha=1e-3, k=1.0)
    real = (torch.from_numpy(x).double() - f.zero) * f.scale
    expected = torch.nn.functional.local_response_norm(real, 5, 1e-3, 0.75, 1.0) / y.scale + y.zero
    got = one(op, f, (9, 4, 4), x)
    assert np.abs(got - expected.clamp(0, 255).numpy()).max() <= 0.5 + 1e-9  # rounding to a code


def test_max_pool_ignores_padding() -> None:
    x = np.full((1, 1, 2, 2), 3, np.uint8)
    f = Format(1.0, 200)  # the padding's zero is code 200, above every value
    op = MaxPool(
        name="m",
        inputs=("input",),
        output="y",
        out=f,
        kernel=(2, 2),
        stride=(1, 1),
        pads=(1, 1, 1, 1),
    )
    assert (one(op, f, (1, 2, 2), x) == 3).all()


def test_add_rounds_each_product() -> None:
    rng = np.random.default_rng(1)
    a, b, y = Format(0.37, 12), Format(0.11, 200), Format(0.41, 90)
    x = rng.integers(0, 256, (1, 2, 16, 16)).astype(np.uint8)
    other = Concat(name="c", inputs=("input",), output="b", out=b)
    add = Add(name="a", inputs=("input", "b"), output="y", out=y, lo=90, hi=255)
    program = Program(a, (2, 16, 16), (other, add))
    validate(program)
    got = oracle.run(program, x)
    for p, q, r in zip(x.flat, got["b"].flat, got["y"].flat, strict=True):
        left = np.float32(int(p) - 12) * np.float32(np.float64(a.scale) / y.scale)
        right = np.float32(int(q) - 200) * np.float32(np.float64(b.scale) / y.scale)
        assert r == min(max(half_even(np.float32(left + right)) + 90, 90), 255)


def test_input_is_quantized_by_division() -> None:
    program = Program(Format(0.1, 10, 0, 15), (1, 1, 4), ())
    images = np.array([-5.0, 0.05, 0.25, 99.0], np.float32).reshape(1, 1, 1, 4)
    inside = [half_even(np.float32(v) / np.float32(0.1)) + 10 for v in (0.05, 0.25)]
    expected = [0, *inside, 15]
    assert oracle.quantize_input(images, program).flatten().tolist() == expected
