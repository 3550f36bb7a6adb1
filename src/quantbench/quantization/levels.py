"""The projection onto levels: one look into a table for every value.

However many levels there are.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, lru_cache
from itertools import product

import torch
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.quantization.scheme import Kind

# Exponents of each term set of APoT (0 itself is in every set): level = gamma * sum of one element
# of each set.
_APOT_TERMS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0,),),
    2: ((1, 2, 3),),
    3: ((1, 2, 4), (3,)),
    4: ((1, 3, 5), (2, 4, 6)),
    5: ((1, 3, 6), (2, 4, 7), (5,)),
    6: ((1, 4, 7), (2, 5, 8), (3, 6, 9)),
}


@cache
def unsigned_levels(kind: Kind, bits: int) -> tuple[Fraction, ...]:
    """Levels in [0, 1] of an unsigned grid with ``2**bits`` of them, ascending, as exact rationals.

    Raises:
        BadInput: additive powers of two, and Lloyd's levels, are defined for 1 to 6 unsigned bits.

    """
    if kind == "uniform":
        return tuple(Fraction(i, 2**bits - 1) for i in range(2**bits))
    if kind == "pot":
        return (Fraction(0), *(Fraction(1, 2**e) for e in range(2**bits - 2, -1, -1)))
    if kind == "lloyd":
        return tuple(Fraction(code, LLOYD_STEPS) for code in _lloyd(bits))
    sets = [
        (Fraction(0), *(Fraction(1, 2**e) for e in exponents)) for exponents in apot_terms(bits)
    ]
    sums = sorted({sum(terms, Fraction(0)) for terms in product(*sets)})
    return tuple(s / sums[-1] for s in sums)


def apot_terms(bits: int) -> tuple[tuple[int, ...], ...]:
    """Exponents e of each term set {0, 2^-e, ...} of the unsigned APoT levels.

    Raises:
        BadInput: additive powers of two are defined for 1 to 6 unsigned bits.

    """
    if bits not in _APOT_TERMS:
        raise BadInput(f"APoT levels are defined for 1 to 6 bits beside the sign, not {bits}")
    return _APOT_TERMS[bits]


LLOYD_STEPS = 1024  # of the largest of Lloyd's levels: they are whole multiples of one step too

LLOYD_ROUNDS = 500  # after which no level moves by more than a step


@cache
def _lloyd(bits: int) -> tuple[int, ...]:
    """Lloyd's levels for the absolute value of a standard normal, beside 0, in steps.

    Lloyd 1982: every level is the mean of what is nearest to it. Half of a bell is what weights
    without their sign, and activations behind a ReLU, look like; 0 stays a level, for it is the
    activations' commonest value, and takes what is nearest to it like any other.

    Raises:
        BadInput: not 1 to 6 bits.

    """
    if not 1 <= bits <= 6:
        raise BadInput(f"Lloyd's levels are defined for 1 to 6 bits beside the sign, not {bits}")
    bell = torch.distributions.Normal(0.0, 1.0)
    # many levels lie as densely as the third root of the bell, which is a wider bell (Panter and
    # Dite 1951): from there a few rounds suffice
    ranks = torch.arange(2**bits, dtype=torch.float64) / (2**bits - 0.5)
    levels = math.sqrt(3) * bell.icdf((1 + ranks) / 2)  # type: ignore[no-untyped-call]
    for _ in range(LLOYD_ROUNDS):
        ends = torch.cat([(levels[1:] + levels[:-1]) / 2, torch.tensor([torch.inf]).double()])
        density, below = bell.log_prob(ends).exp(), bell.cdf(ends)  # type: ignore[no-untyped-call]
        levels[1:] = (density[:-1] - density[1:]) / (below[1:] - below[:-1])
    return tuple(int(code) for code in (levels / levels[-1] * LLOYD_STEPS).round())


@cache
def code_levels(kind: Kind, bits: int, *, signed: bool, symmetric: bool = True) -> tuple[int, ...]:
    """All codes of a grid, ascending: whole multiples of the smallest step.

    Uniform signed grids are two's complement (-2^(b-1) .. 2^(b-1)-1), unsigned ones 0 .. 2^b-1.
    Lloyd's levels are rounded to a thousandth of the largest. Other kinds than uniform keep one bit
    for the sign; at 2 bits that leaves {-1, 0, 1} (APoT, section 3.3).
    """
    if kind == "uniform":
        half = 2 ** (bits - 1) if signed and symmetric else 0
        return tuple(range(-half, 2**bits - half))
    fractions = unsigned_levels(kind, bits - 1 if signed else bits)
    step = math.lcm(*(f.denominator for f in fractions))
    positive = [int(f * step) for f in fractions]
    common = math.gcd(*positive)
    positive = [p // common for p in positive]
    return tuple(sorted({-p for p in positive} | set(positive))) if signed else tuple(positive)


# entries; powers of two at 5 unsigned bits would need 2^32, and are searched for instead
LARGEST_TABLE = 2**16


def nearest_levels(x: Tensor, levels: tuple[int, ...]) -> Tensor:
    """The level nearest to every value, the lower of two equally near ones; NaN stays NaN.

    Levels are whole numbers, so their midpoints are halves, and which of the intervals ((k-1)/2,
    k/2] a value is in says what is nearest. Memory is that of a few tensors like ``x``.

    Args:
        x: any shape; its memory layout is kept.
        levels: ascending.

    """
    x = x.detach()
    low, high = 2 * levels[0], 2 * levels[-1]
    if high - low > LARGEST_TABLE:
        ends = torch.tensor(levels, dtype=x.dtype, device=x.device)
        nearest = torch.bucketize(x.contiguous(), (ends[1:] + ends[:-1]) / 2)
        return ends[nearest].where(~x.isnan(), x)
    exact = x if x.dtype == torch.float64 else x.float()  # in bfloat16 not every k is a number
    k = (2 * exact).ceil_().clamp_(low, high).sub_(low).nan_to_num_(nan=high - low + 1)
    # in the order of memory: k has no gaps, being new
    index = k.to(torch.int32).as_strided((k.numel(),), (1,))
    found = _table(levels, x.dtype, x.device).index_select(0, index)
    return found.as_strided(k.shape, k.stride())


@lru_cache(maxsize=64)
def _table(levels: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Nearest level of k/2 for every k between twice the lowest and twice the highest level.

    The last entry is NaN.
    """
    # what is made in that mode could not be used outside of it
    with torch.inference_mode(mode=False):
        ends = torch.tensor(levels, dtype=torch.float64)
        halves = torch.arange(2 * levels[0], 2 * levels[-1] + 1, dtype=torch.float64) / 2
        nearest = ends[torch.bucketize(halves, (ends[1:] + ends[:-1]) / 2)]
        return torch.cat([nearest, torch.full((1,), torch.nan)]).to(device, dtype)
