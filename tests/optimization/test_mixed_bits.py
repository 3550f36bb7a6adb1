"""Bits to choose from, where a scheme's grids do not have all of them."""

import re

import pytest

from quantbench.optimization.mixed_bits import no_such_bits
from quantbench.quantization.scheme import Grid, Scheme

UNIFORM, APOT, POT = Grid(4), Grid(4, "apot"), Grid(4, "pot")


@pytest.mark.parametrize(
    ("weights", "acts", "bits", "why"),
    [
        (UNIFORM, UNIFORM, {2, 8}, None),
        (APOT, None, {2, 4, 7}, None),
        (APOT, None, {4, 8}, "1 to 6 bits beside the sign, not 7"),
        (UNIFORM, APOT, {4, 8}, "1 to 6 bits beside the sign, not 7"),
        (UNIFORM, Grid(4, "apot", symmetric=False), {4, 7}, "not 7"),
        (POT, None, {4}, None),
        (POT, None, {4, 8}, "codes of pot grids at 8 bits do not fit 32 bits"),
    ],
)
def test_bits_that_a_kind_of_grid_does_not_have_are_told(weights, acts, bits, why):
    found = no_such_bits(Scheme(weights, acts), bits, bits)
    assert found is None if why is None else re.search(why, found)
