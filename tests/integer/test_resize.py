"""Bilinear interpolation in whole numbers: by fractions, by torch, and on every kernel."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Concat, Format, Program, Resize
from quantbench.integer.scales import taps
from quantbench.integer.simulate import Simulation
from quantbench.integer.validate import validate
from tests.helpers.chains import Chain, same

SETTINGS = settings(max_examples=100, deadline=None, derandomize=True)

SIZES = st.integers(1, 40)

needs_native = pytest.mark.skipif(
    Native("").available() is not None, reason=f"{Native('').available()}"
)


def place(o: int, n: int, m: int, *, corners: bool) -> Fraction:
    """Where output o lies among n inputs."""
    if corners:
        return Fraction(o * (n - 1), m - 1) if m > 1 else Fraction(0)
    p = (o + Fraction(1, 2)) * Fraction(n, m) - Fraction(1, 2)
    return min(max(p, Fraction(0)), Fraction(n - 1))


@SETTINGS
@given(SIZES, SIZES, st.booleans())
def test_weights_are_the_fractions_of_where_outputs_lie(n: int, m: int, corners: bool) -> None:
    t = taps(n, m, align_corners=corners)
    for o in range(m):
        p = place(o, n, m, corners=corners)
        assert t.lower[o] == floor(p)
        assert Fraction(int(t.weight[o]), t.whole) == p - floor(p)
        assert t.upper[o] == min(floor(p) + 1, n - 1)


def one(
    shape: tuple[int, int, int], size: tuple[int, int], *, corners: bool, out: Format | None
) -> Program:
    x = Format(0.05, 7, 2, 250)
    op = Resize(name="r", inputs=("input",), output="y", out=out, size=size, align_corners=corners)
    return Program(x, shape, (op,))


@SETTINGS
@given(SIZES, SIZES, SIZES, SIZES, st.booleans(), st.booleans())
def test_every_code_is_the_fraction_rounded_once(
    h: int, w: int, oh: int, ow: int, corners: bool, values: bool
) -> None:
    out = None if values else Format(0.037, 3, 0, 200)
    program = one((2, h, w), (oh, ow), corners=corners, out=out)
    validate(program)
    x = np.random.default_rng(h * w).integers(2, 251, (1, 2, h, w)).astype(np.uint8)
    got = oracle.run(program, x)["y"]
    rows, columns = ([place(o, n, m, corners=corners) for o in range(m)]
                     for n, m in ((h, oh), (w, ow)))  # fmt: skip
    exact = np.empty(got.shape)
    for i, j in np.ndindex(oh, ow):
        r, c = floor(rows[i]), floor(columns[j])
        for ch in range(2):
            exact[0, ch, i, j] = sum(
                (1 - abs(rows[i] - a)) * (1 - abs(columns[j] - b)) * (int(x[0, ch, a, b]) - 7)
                for a in (r, r + 1)
                for b in (c, c + 1)
                if a < h and b < w
            )
    s = np.float64(np.float32(0.05))
    if values:
        np.testing.assert_allclose(got, exact * s, rtol=3e-7, atol=0)
        return
    t = exact * s / np.float64(np.float32(0.037)) + 3
    assert np.abs(got - t.clip(0, 200)).max() <= 0.5 + 1e-4
    reference = F.interpolate(
        torch.from_numpy(x).double(), (oh, ow), mode="bilinear", align_corners=corners
    )
    np.testing.assert_allclose(reference.numpy() - 7, exact, rtol=0, atol=1e-3)  # torch's places


@SETTINGS
@given(SIZES, SIZES, SIZES, SIZES, st.booleans(), st.booleans())
def test_the_simulation_gives_the_oracles_bits(
    h: int, w: int, oh: int, ow: int, corners: bool, values: bool
) -> None:
    out = None if values else Format(0.037, 3, 0, 200)
    program = one((3, h, w), (oh, ow), corners=corners, out=out)
    x = np.random.default_rng(0).integers(2, 251, (2, 3, h, w)).astype(np.uint8)
    got = Simulation(program).codes(torch.from_numpy(x))["y"]
    np.testing.assert_array_equal(got.numpy(), oracle.run(program, x)["y"])


@needs_native
@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (5, 17), (33, 9), (6, 7)])
def test_native_kernels_give_the_oracles_codes(size: tuple[int, int], corners: bool) -> None:
    """In front of a window, which puts a border around it, and of a concatenation."""
    chain = Chain((20, 6, 7))
    x = chain.conv("input", 24, 3)
    y = Format(0.03, 9)
    resize = Resize(name="r", inputs=(x,), output="r", out=y, size=size, align_corners=corners)
    chain.push(resize)
    chain.conv("r", 19, 3)
    for out in (y, Format(0.05, 0)):
        cat = Concat(name="c", inputs=("r", "r"), output="c", out=out)
        last = replace(resize, name="z", inputs=("c",), output="z", out=None)
        p = chain.program()
        same(Program(p.input, p.shape, (*p.ops, cat, last)), chain.images(3), threads=2)


def test_sums_that_could_leave_int32_are_refused() -> None:
    program = one((1, 8191, 8190), (8191 + 64, 8190 + 64), corners=True, out=None)
    with pytest.raises(BadInput, match="could leave int32"):
        validate(program)


@pytest.mark.parametrize("wrong", [{"size": (0, 4)}, {"size": 4}, {"align_corners": 1}])
def test_what_is_no_size_is_refused(wrong: dict[str, object]) -> None:
    program = one((1, 4, 4), (4, 4), corners=True, out=None)
    with pytest.raises(BadInput, match="Resize 'r'"):
        validate(replace(program, ops=(replace(program.ops[0], **wrong),)))
