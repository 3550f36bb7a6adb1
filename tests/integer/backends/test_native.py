"""The native kernels against the oracle: every instruction set of this machine, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.integer.backends import native
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import (
    LRN,
    Add,
    Concat,
    Conv,
    Flatten,
    Format,
    Island,
    MaxPool,
    Program,
    Rearrange,
)
from quantbench.integer.testing import fuzz
from tests.helpers.chains import SETS, Chain, kinds, same

pytestmark = pytest.mark.skipif(
    Native("").available() is not None, reason=f"{Native('').available()}"
)
SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.mark.slow
@SETTINGS
@given(st.data())
def test_random_programs_equal_the_oracle(data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    program = fuzz.any_program(draw, size=draw(4, 20), branching=True)
    same(
        program,
        fuzz.codes(draw, program, 3),
        threads=draw(1, 3),
        limit=draw(0, 2),
        winograd=bool(draw(0, 1)),
    )


@pytest.mark.parametrize("size", [1, 5, 6, 7, 9, 14, 17, 29])
@pytest.mark.parametrize("kernel", [1, 3])
def test_every_tile_of_pixels_and_outputs(size, kernel):
    for outs, stride in ((16, 1), (33, 1), (48, 2), (80, 1), (64, 2), (112, 1), (176, 1)):
        chain = Chain((20, size, size + 1), seed=size)
        x = chain.conv("input", outs, kernel, stride)
        chain.conv(x, 24, kernel, residual=None)
        same(chain.program(), chain.images(1))


@pytest.mark.parametrize("pixels", [False, True])
def test_a_linear_layer_beside_a_window_on_the_same_pixel(pixels):
    """The window puts a border around the pixel, or around what the linear layer gives."""
    chain = Chain((40, 1, 1))
    x = chain.conv("input", 50) if pixels else "input"
    y = chain.conv(x, 50)
    z = chain.conv(x, 50, 3, residual=y)
    y = chain.conv(z, 70)
    chain.conv(y, 30, 3)
    same(chain.program(), chain.images(3), threads=2)


@pytest.mark.parametrize("stride", [1, 2])
def test_images_of_three_channels_are_added_to_what_they_became(stride):
    chain = Chain((3, 9, 10))
    chain.conv("input", 3, 3, residual="input")  # one convolution reads them and adds them
    x = chain.conv("input", 20, 3)
    chain.conv(x, 3, 3, residual="input")
    chain.conv("input", 24, 3, stride)
    same(chain.program(), chain.images(2))


@pytest.mark.parametrize("codes", [8, 255])
def test_codes_outside_of_the_inputs_range_are_refused(codes):
    chain = Chain((4, 5, 5), 3)
    chain.conv("input", 8, 3)
    with pytest.raises(
        BadInput, match=rf"input codes {codes}\.\.{codes} are outside the format's 0\.\.7"
    ):
        Native("").compile(chain.program())(np.full((1, 4, 5, 5), codes, np.uint8))


@pytest.mark.parametrize("size", [1, 3, 16, 28, 33, 60])
def test_strips_by_columns(size):
    """Whole blocks in, one block out, rows of three taps: an input serves three outputs."""
    for channels, outs in ((16, 16), (48, 16), (16, 48), (32, 32)):
        chain = Chain((channels, 4, size), seed=size)
        x = chain.conv("input", outs, 3)
        chain.conv(x, outs, 3, residual=x)
        same(chain.program(), chain.images(2), threads=2, winograd=False)


@pytest.mark.parametrize(
    ("acts", "bits", "size"), [(4, 4, 8), (6, 4, 14), (4, 2, 9), (5, 3, 1), (6, 2, 19)]
)
@pytest.mark.parametrize("channels", [5, 24, 50])
def test_winograd_is_exact(acts, bits, size, channels):
    chain = Chain((channels, size, size + 2), acts, seed=size)
    x = chain.conv("input", channels, 3, bits=bits, acts=acts)
    y = chain.conv(x, channels, 3, bits=bits, acts=acts, residual="input")
    chain.conv(y, channels + 3, 3, bits=bits, acts=acts, pad=2)
    images = chain.images(2)
    images[0] = chain.formats["input"].hi  # the largest transforms
    same(chain.program(), images, threads=2, winograd=True)
    if SETS[-1] != "portable":
        rows = Native(winograd=True).compile(chain.program()).layers(images, 1)
        assert [kind for _, kind, _ in rows] == ["input", "winograd", "winograd", "winograd"]


def test_winograd_is_chosen_where_it_pays():
    chain = Chain((64, 8, 8), 4)
    chain.conv("input", 64, 3, bits=4)
    if SETS[-1] != "portable":
        assert kinds(chain.program(), chain.images(1)) == ["input", "winograd"]


@pytest.mark.parametrize("isa", SETS)
def test_winograd_takes_words_or_nothing_where_bytes_would_overflow(isa):
    chain = Chain((64, 8, 8), 7)  # transforms of 7-bit codes need 9 bits
    chain.conv("input", 64, 3, bits=4)
    wide = Chain((64, 8, 8), 4)
    wide.conv("input", 64, 3, bits=8)
    for c in (chain, wide):
        compiled = Native(isa, winograd=True).compile(c.program())
        found = [kind for _, kind, _ in compiled.layers(c.images(1), 1)]
        assert found == ["input", "winograd" if isa == "avx2" else "conv"]
        same(c.program(), c.images(1), winograd=True)


@pytest.mark.parametrize(("acts", "bits", "zero"), [(8, 8, None), (8, 8, 255), (5, 8, 9)])
@pytest.mark.parametrize(("channels", "size"), [(3, 9), (5, 1), (24, 14), (50, 8)])
def test_winograd_in_words_is_exact(acts, bits, zero, channels, size):
    """At codes of both ends: the largest transforms, and their largest differences."""
    chain = Chain((channels, size, size + 2), acts, seed=size)
    x = chain.conv("input", channels, 3, bits=bits, acts=acts, zero=zero)
    y = chain.conv(x, channels, 3, bits=bits, acts=acts, residual="input")
    chain.conv(y, channels + 14, 3, bits=bits, acts=acts, pad=2)
    images = chain.images(4)
    images[0] = chain.formats["input"].hi
    images[1] = chain.rng.choice([0, chain.formats["input"].hi], images[1].shape)
    same(chain.program(), images, threads=2, winograd=True)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("inputs", [13, 64, 100])
@pytest.mark.parametrize("zero", [None, 3, 255])
def test_linear_layers_of_packed_weights(bits, inputs, zero):
    for outs in (10, 64, 130):
        chain = Chain((inputs, 1, 1), seed=outs)
        x = chain.conv("input", outs, bits=bits, zero=zero)
        chain.conv(x, 7, bits=bits, logits=True)
        for n in (1, 3, 13):
            same(chain.program(), chain.images(n))


GEOMETRIES = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (7, 3, 1), (2, 1, 1)]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
def test_depthwise(kernel, stride, dilation):
    for channels, size in ((8, 9), (16, 14), (40, 17)):
        chain = Chain((channels, size, size), seed=kernel)
        chain.conv("input", channels, kernel, stride, groups=channels, dilation=dilation)
        same(chain.program(), chain.images(2), threads=2)


def test_packed_images_of_three_channels():
    for kernel, stride, size in ((7, 2, 33), (3, 1, 32), (3, 2, 20), (5, 1, 11), (3, 3, 12)):
        chain = Chain((3, size, size), seed=kernel)
        chain.conv("input", 40, kernel, stride)
        same(chain.program(), chain.images(2))
        floats = chain.rng.normal(0, 2, (2, 3, size, size)).astype(np.float32)
        same(chain.program(), floats)


def test_large_weights_take_images_together():
    chain = Chain((32, 4, 4))
    x = chain.conv("input", 256, 3)
    y = chain.conv(x, 256, 3)
    z = chain.conv(y, 64, 3, residual=None)
    chain.push(Flatten(name="flat", inputs=(z,), output="flat", out=chain.formats[z]))
    chain.conv("flat", 40, logits=True)
    same(chain.program(), chain.images(3), limit=2)
    images = chain.images(9)
    for threads in (1, 2):
        compiled = Native().compile(chain.program(), threads=threads)
        apart = np.concatenate([compiled(images[i : i + 1]) for i in range(9)])
        np.testing.assert_array_equal(compiled(images), apart)


def test_concatenations_in_place_and_not():
    chain = Chain((16, 6, 6))
    a, b, c = (chain.conv("input", n, 3) for n in (32, 16, 20))
    f = chain.formats[a]
    for inputs in ((a, b, c), (a, c, b), (a, a, "input"), (c, a)):
        name = f"t{len(chain.ops)}"
        chain.push(Concat(name=name, inputs=inputs, output=name, out=f))
        chain.conv(name, 24, 3)
    chain.ops = [replace(op, out=f) if op.output in (a, b) else op for op in chain.ops]
    chain.formats |= {b: f}
    same(chain.program(), chain.images(2))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.floats(1e-7, 1e4),
    st.floats(0.25, 4),
    st.floats(1e-3, 1.0),
)
def test_lrn_rounds_as_binary64_does(size, channels, alpha, k, scale):
    chain = Chain((channels, 8, 64))
    y = Format(scale / 50, 100)
    chain.push(LRN(name="lrn", inputs=("input",), output="lrn", out=y, size=size, alpha=alpha, k=k))
    same(chain.program(), chain.images(1))


def test_lrn_next_to_halves():
    """What binary32 takes for a half, and binary64 does not: of every odd code."""
    codes = np.arange(256, dtype=np.uint8).reshape(1, 16, 4, 4)
    y = Format(2.0, 0)
    for alpha in (2.0**-38, 2.0**-30, 2.0**-24):
        op = LRN(name="l", inputs=("input",), output="l", out=y, size=1, alpha=alpha, k=1.0)
        same(Program(Format(1.0, 0), (16, 4, 4), (op,)), codes)


def test_ties_saturation_and_huge_multipliers():
    f = Format(1.0, 0)
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    weight, bias = np.array([-1, 1, 127], np.int8), np.array([0, 1, -(2**31) + 40000], np.int32)
    for scale in (0.5, 1.5, 2.0**60, 2.0**-60):
        conv = Conv(
            name="c", inputs=("input",), output="c", out=Format(1.0, 7),
            weight=weight.reshape(3, 1, 1, 1), weight_zero=np.zeros(3, np.int16),
            weight_scale=np.full(3, scale, np.float32), bias=bias,
            lo=np.zeros(3, np.uint8), hi=np.full(3, 255, np.uint8),
        )  # fmt: skip
        same(Program(f, (1, 16, 16), (conv,)), images)


@pytest.mark.parametrize(
    ("split", "axes", "into"),
    [
        ((48, 4, 6), (0, 2, 1), (48, 6, 4)),  # whole blocks of a pixel move
        ((48, 4, 6), (1, 2, 0), (4, 6, 48)),  # channels become columns
        ((3, 16, 2, 2, 2, 3), (0, 1, 3, 5, 2, 4), (48, 6, 4)),  # windows
        ((3, 16, 4, 6), (1, 0, 2, 3), (48, 4, 6)),  # channels shuffled
        ((1152,), (0,), (1152, 1, 1)),
        ((1152,), (0,), (9, 16, 8)),  # blocks that are not full
        ((48, 24), (1, 0), (24, 1, 48)),
    ],
)
def test_values_in_another_order(split, axes, into):
    """Between convolutions whose windows put borders around both."""
    chain = Chain((5, 4, 6))
    x = chain.conv("input", 48, 3)
    out = chain.formats[x]
    y = chain.push(
        Rearrange(
            name="order", inputs=(x,), output="turned", out=out, split=split, axes=axes, into=into
        )
    )
    chain.conv(y, 20, 3)
    chain.conv(x, 20, 3)
    same(chain.program(), chain.images(3), threads=2)


def test_a_foreign_operator_runs_in_torch():
    chain = Chain((4, 5, 5))
    x = chain.conv("input", 8, 3)
    chain.push(
        Island(
            name="sigmoid",
            inputs=(x,),
            output="island",
            out=Format(0.05, 3),
            function=lambda t: t.sigmoid(),
            shape=(8, 5, 5),
            reason="no integer form",
        )
    )
    chain.conv("island", 3, 5, pad=0, logits=True)
    same(chain.program(), chain.images(5), threads=2)


def test_floats_behind_the_last_codes_are_computed_in_torch():
    """As of a detector, whose heads are put side by side."""
    chain = Chain((4, 5, 5))
    x = chain.conv("input", 8, 3)
    y = chain.conv(x, 8, 3)
    chain.ops.append(
        Island(
            name="beside",
            inputs=(x, y),
            output="beside",
            out=None,
            function=lambda a, b: torch.cat([a, b.exp()], 1),
            shape=(16, 5, 5),
            reason="it ends in floats",
        )
    )
    same(chain.program(), chain.images(5), threads=2)


def test_products_in_registers_are_counted():
    for isa in SETS:
        per_round = native._module().multiply(isa, 1)
        assert per_round > 0
        assert native._module().multiply(isa, 1000) == 1000 * per_round
    with pytest.raises(ValueError, match="rounds"):
        native._module().multiply("", -1)


def test_pools_reach_over_edges():
    chain = Chain((20, 9, 9))
    f = chain.formats["input"]
    window = {"kernel": (3, 3), "stride": (2, 2), "pads": (0, 0, 1, 1)}
    chain.push(MaxPool(name="max", inputs=("input",), output="max", out=f, **window))
    chain.push(
        Add(name="add", inputs=("max", "max"), output="add", out=Format(0.03, 5), lo=2, hi=200)
    )
    same(chain.program(), chain.images(2), threads=2)
