"""Weights packed to their bits, and coded: what goes in comes out, and damage is named."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.integer import packing

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


@SETTINGS
@given(seed=st.integers(0, 10_000))
def test_packing_takes_the_bits_it_needs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(1, 9))
    values = rng.choice(np.arange(-128, 128), 2**bits, replace=False).astype(np.int8)
    shape = tuple(int(n) for n in rng.integers(1, 9, 4))
    weight = np.concatenate([values, rng.choice(values, int(np.prod(shape)))])
    packed, table = packing.pack(weight)
    assert len(packed) == -(-weight.size * bits // 8)
    np.testing.assert_array_equal(packing.unpack(packed, table, weight.shape), weight)


@SETTINGS
@given(data=st.binary(min_size=1, max_size=300), repeats=st.integers(1, 40))
def test_coding_is_undone(data: bytes, repeats: int) -> None:
    packed = np.frombuffer(data * repeats, np.uint8)
    short = packing.code(packed)
    if short is not None:
        assert len(short) < len(packed)
        np.testing.assert_array_equal(packing.decode(short, len(packed)), packed)
        for size in (len(packed) - 1, len(packed) + 1, 0, 1 << 40):
            with pytest.raises(ValueError, match="coded"):
                packing.decode(short, size)


def test_coded_weights_cannot_ask_for_memory() -> None:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = np.frombuffer(coder.compress(bytes(1 << 20)) + coder.flush(), np.uint8)
    with pytest.raises(ValueError, match="coded values do not hold"):
        packing.decode(bomb, 1 << 20)
    with pytest.raises(ValueError, match="damaged"):
        packing.decode(np.full(100, 255, np.uint8), 100)
