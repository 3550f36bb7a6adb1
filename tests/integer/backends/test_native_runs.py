"""Convolutions whose products add up in int16: at its very ends, on every instruction set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Conv
from tests.helpers.chains import SETS, Chain, kinds, same

pytestmark = pytest.mark.skipif(
    Native("").available() is not None, reason=f"{Native('').available()}"
)

# Four weights that meet four neighbouring codes. 255 * (a + b) is 32640 at a + b = 128, the last
# pair that int16 holds, and 32895 beyond it; 255 * -128 fits, 255 * -129 does not.
FOURS = {
    "no pair fits": (127, 127, 127, 127),
    "no pair fits below": (-128, -128, -128, -128),
    "the last pairs that fit": (127, 1, -127, -1),
    "the first pairs that do not": (127, 2, -127, -2),
    "other pairs fit": (100, 100, -100, -100),
    "the third pairing fits": (100, -100, 100, -100),
    "one pair does not": (90, 90, 0, 0),
    "two steps fit together": (64, 0, -64, 0),
    "two steps just do not": (65, 0, 0, -65),
    "runs of eight": (-8, -8, -8, -8),
    "runs of nine": (7, 7, 7, 7),
    "long runs": (1, 0, -1, 1),
    "nothing": (0, 0, 0, 0),
}


def layer(rows: np.ndarray, *, kernel: int = 1, size: int = 5, bits: int = 8):
    """A convolution of these weights (outputs, inputs), at every tap, and its images."""
    chain = Chain((rows.shape[1], size, size), bits, seed=1)
    chain.conv("input", len(rows), kernel)
    op = chain.ops[0]
    assert isinstance(op, Conv)
    weight = np.repeat(np.repeat(rows[:, :, None, None], kernel, 2), kernel, 3).astype(np.int8)
    spread = np.abs(rows.astype(int)).sum(1).clip(1) * kernel**2 * chain.formats["input"].hi
    scale = (64 / spread).astype(np.float32)
    chain.ops[0] = replace(op, weight=weight, weight_scale=scale)
    images = chain.images(3)
    images[0] = chain.formats["input"].hi
    return chain.program(), images


@pytest.mark.parametrize("four", FOURS.values(), ids=FOURS.keys())
@pytest.mark.parametrize("inputs", [4, 64, 300])
def test_pairs_at_the_ends_of_int16(four, inputs):
    rows = np.tile(np.array(four), (20, inputs // 4))
    same(*layer(rows))


@pytest.mark.parametrize("kernel", [1, 3])
def test_steps_of_every_kind_in_one_strip(kernel):
    """Each output has steps of its own kinds, so that strips hold what is worst of 16 outputs."""
    rng, kinds = np.random.default_rng(0), np.array(list(FOURS.values()))
    for most in (1, len(kinds)):  # one kind an output's step in turn; or all kinds in every step
        picks = rng.integers(0, len(kinds), (most, 40, 30))
        rows = kinds[picks[rng.integers(0, most, (40, 30)), np.arange(40)[:, None], np.arange(30)]]
        same(*layer(rows.reshape(40, 120), kernel=kernel, size=6))


@pytest.mark.parametrize("deviation", [1, 4, 20, 40, 80])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bell_shaped_weights(deviation, bits):
    rows = np.random.default_rng(deviation).normal(0, deviation, (50, 150)).round().clip(-128, 127)
    program, images = layer(rows, kernel=3, size=9, bits=bits)
    same(program, images, threads=2)


def every_form() -> Chain:
    """A layer of each kind of kernel; the weights of the first are small enough for Winograd's."""
    chain = Chain((32, 8, 8), bits=4)
    x = chain.conv("input", 32, 3, acts=4, bits=3)
    x = chain.conv(x, 32, 3, groups=32)
    x = chain.conv(x, 32, 1, residual=x)
    x = chain.conv(x, 32, 8, pad=0)
    chain.conv(x, 40)
    return chain


@pytest.mark.parametrize("factor", [1e6, 1e12, 1e18])
@pytest.mark.parametrize("at", range(5))
def test_multipliers_that_leave_int32(at, factor):
    """Whatever acc * m is, codes saturate as the definition says, by the same kernels."""
    chain = every_form()
    plain = chain.program()
    scale = (chain.ops[at].weight_scale * np.float32(factor)).astype(np.float32)
    chain.ops[at] = replace(chain.ops[at], weight_scale=scale)
    program, images = chain.program(), chain.images(3)
    assert kinds(program, images) == kinds(plain, images)
    for winograd in (True, False):
        same(program, images, winograd=winograd)


@pytest.mark.parametrize("isa", SETS)
def test_every_form_has_a_layer(isa):
    chain = every_form()
    compiled = Native(isa, winograd=True).compile(chain.program())
    found = [kind for _, kind, _ in compiled.layers(chain.images(1), 1)]
    first = "conv" if isa == "portable" else "winograd"
    assert found == ["input", first, "depthwise", "conv", "conv", "linear"]
