"""What the native kernels refuse, and what they say: nothing malformed reaches a kernel."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends import native
from quantbench.integer.backends.base import backend
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Program
from tests.helpers.chains import SETS, Chain

pytestmark = pytest.mark.skipif(
    Native("").available() is not None, reason=f"{Native('').available()}"
)


def test_the_environment_lowers_the_instruction_set(monkeypatch):
    chain = Chain((3, 8, 8))
    chain.conv("input", 8, 3)
    for isa in SETS:
        monkeypatch.setenv("QUANTBENCH_ISA", isa)
        assert backend("native").compile(chain.program()).isa == isa
    monkeypatch.setenv("QUANTBENCH_ISA", "sse9")
    assert "sse9" in str(backend("native").available())
    with pytest.raises(BadInput, match="sse9"):
        backend("native").compile(chain.program())


def test_without_the_extension_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "quantbench._native", None)
    assert "compiler" in str(Native().available())
    chain = Chain((3, 8, 8))
    chain.conv("input", 8, 3)
    with pytest.raises(Unsupported, match="compiler"):
        Native().compile(chain.program())


def test_bad_images_are_refused():
    chain = Chain((3, 8, 8))
    chain.conv("input", 8, 3)
    compiled = Native().compile(chain.program())
    nan = np.zeros((1, 3, 8, 8), np.float32)
    nan[0, 2, 7, 5] = np.nan
    for images in (
        nan,
        np.zeros((1, 3, 8, 9), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 3, 8, 8)),
    ):
        with pytest.raises(BadInput, match=r"native|takes float32 or uint8"):
            compiled(images)
    assert compiled(np.zeros((0, 3, 8, 8), np.uint8)).shape == (0, 8 * 64)


GOOD = {
    "x": 0, "r": -1, "weight": np.ones((2, 4, 3, 3), np.int8), "weight_zero": np.zeros(2, np.int16),
    "bias": np.zeros(2, np.int32), "m": np.ones(2, np.float32), "lo": np.zeros(2, np.uint8),
    "hi": np.full(2, 255, np.uint8), "zero": 0, "ratio": 1.0, "stride": (1, 1),
    "pads": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1,
}  # fmt: skip
BAD = [
    {"x": 1}, {"x": -1}, {"r": 7}, {"r": 0}, {"groups": 0}, {"groups": 3}, {"hi": None},
    {"zero": 256}, {"stride": (0, 1)}, {"pads": (-1, 0, 0, 0)}, {"dilation": (1, 9)},
    {"bias": np.zeros(3, np.int32)},
    {"weight": np.ones((2, 3, 3, 3), np.int8)}, {"weight": np.ones((2, 4, 7, 7), np.int8)},
    {"weight": np.ones((2, 4, 3, 3), np.int32)}, {"m": np.full(2, np.inf, np.float32)},
    {"weight_zero": np.full(2, 999, np.int16)}, {"bias": np.full(2, 2**31 - 1, np.int32)},
    {"lo": np.full(2, 9, np.uint8), "hi": np.zeros(2, np.uint8)},
]  # fmt: skip


def conv(b, x, r, **arguments):
    return b.add("conv", [x] if r < 0 else [x, r], **arguments)


def builder(shape=(4, 6, 6), zero=0, lo=0, hi=255, scale=1.0):
    return native._module().Builder(shape, zero, lo, hi, scale, "")


@pytest.mark.parametrize("change", BAD, ids=",".join)
def test_the_builder_refuses_a_malformed_convolution(change):
    conv(builder(), **GOOD)
    with pytest.raises((ValueError, TypeError)):
        conv(builder(), **{**GOOD, **change})


def order(b, split=(4, 6, 6), axes=(2, 0, 1), into=(6, 4, 6)):
    split, axes = np.array(split, np.int32), np.array(axes, np.int32)
    return b.add("rearrange", [0], split=split, axes=axes, into=into)


def test_the_builder_refuses_other_malformed_operators():
    b, ones = builder(), np.ones((4, 4), np.float32)
    order(builder())  # which it takes
    codes, pads = {"zero": 0, "lo": 0, "hi": 255}, {"pads": (0, 0, 0, 0)}
    lrn = {"alpha": 1.0, "k": 1.0, "ratio": 1.0}
    for call in (
        lambda: b.add("add", [0, 3], a_ratio=1.0, b_ratio=1.0, **codes),
        lambda: b.add("add", [0, 0], a_ratio=1.0, b_ratio=0.0, **codes),
        lambda: b.add("concat", [], ratios=[], **codes),
        lambda: b.add("concat", [0], ratios=[1.0, 1.0], **codes),
        lambda: b.add("max_pool", [0], kernel=(7, 1), stride=(1, 1), **pads),
        lambda: b.add("max_pool", [0], kernel=(2, 2), stride=(1, 1), pads=(2, 0, 0, 0)),
        lambda: b.add(
            "avg_pool", [0], kernel=(2, 2), stride=(1, 1), multipliers=ones, **pads, **codes
        ),
        lambda: b.add("lut", [0], table=np.zeros(255, np.uint8), zero=0),
        lambda: b.add("lrn", [0], size=0, **lrn, **codes),
        lambda: b.add("pad", [0], pads=(0, -1, 0, 0, 0, 0), stride=(1, 1)),
        lambda: order(b, split=(4, 36)),
        lambda: order(b, split=(4, 6, 3)),
        lambda: order(b, split=(0, 6, 6)),
        lambda: order(b, split=(2**31 - 1, 2**31 - 1, 2**31 - 1)),
        lambda: order(b, axes=(0, 1)),
        lambda: order(b, axes=(0, 1, 1)),
        lambda: order(b, axes=(0, 1, -1)),
        lambda: order(b, axes=(1, 2, 3)),
        lambda: order(b, into=(6, 4, 5)),
        lambda: b.finish(1, 0, False),
        lambda: builder((0, 1, 1)), lambda: builder(lo=9, hi=8), lambda: builder(scale=0.0),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            call()
    with pytest.raises(ValueError, match="below 0"):
        b.finish(2, 0, False, -1.0)


@pytest.mark.parametrize(
    ("name", "inputs", "arguments", "said"),
    [
        ("soft_max", [0], {}, "no operator 'soft_max'"),
        ("flatten", [0, 0], {}, "flatten: inputs of another number"),
        ("flatten", [0], {"axis": 1}, "flatten: axis is no argument"),
        ("lut", [0], {"table": np.arange(256, dtype=np.uint8)}, "lut: zero is missing"),
        ("lut", [0], {"table": np.arange(256), "zero": 0}, "lut: table: an array of another type"),
        ("lut", [0], {"table": 3, "zero": 0}, "lut: table of a wrong type"),
        (
            "lut",
            [0],
            {"table": np.arange(256, dtype=np.uint8), "zero": 2**40},
            "zero is no integer",
        ),
        ("pad", [0], {"pads": (0,) * 5, "stride": (1, 1)}, "pad: pads of a wrong length"),
        ("pad", [0], {"pads": (0, 0, 0, 0, 0, 0.5), "stride": (1, 1)}, "pads is no integer"),
        ("dequantize", [0], {"scale": "wide"}, "dequantize: scale: no number"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(name, inputs, arguments, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        builder().add(name, inputs, **arguments)


def test_a_malformed_program_is_refused_before_anything_is_packed():
    chain = Chain((3, 8, 8))
    chain.conv("input", 8, 3)
    program = chain.program()
    wrong = Program(
        program.input, program.shape, (replace(program.ops[0], bias=np.zeros(3, np.int32)),)
    )
    with pytest.raises(BadInput, match="bias"):
        Native().compile(wrong)
