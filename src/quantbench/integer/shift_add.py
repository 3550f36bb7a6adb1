"""Shift-and-add: what a unit without multipliers computes, and what it costs.

A code of an (additive) powers-of-two grid is a signed sum of few powers of two, one from each of
the grid's term sets (Li et al. 2020, arXiv 1909.13144, on additive powers of two); a product with
it is as many shifted copies of the other factor, added. All sums are of whole numbers, so the
accumulators are those of ordinary integer multiplication, bit for bit: this file is the definition
that the equality is tested against, not a fast kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import Unsupported
from quantbench.integer.ir import Conv, Program
from quantbench.quantization.levels import apot_terms, code_levels
from quantbench.quantization.scheme import Grid, Kind

Ints = NDArray[np.int64]

WIDEST = 62  # largest shift of an int64


@cache
def shifts(kind: Kind, bits: int, *, signed: bool) -> Mapping[int, tuple[int, ...]]:
    """Exponents of the powers of two whose sum is a code's magnitude, for every code.

    ``apot`` has at most one from each term set, ``pot`` has one, ``uniform`` the binary digits,
    which is what a shift-and-add unit would have to do with a uniform grid.

    Args:
        kind: of the grid.
        bits: of the grid, sign included.
        signed: whether one bit is the sign's.

    Returns:
        exponents, largest first, by code; every code of the grid has an entry.

    Raises:
        Unsupported: codes of more than 62 bits.

    """
    codes = code_levels(kind, bits, signed=signed)
    if codes[-1].bit_length() > WIDEST:
        places = codes[-1].bit_length() - 1
        raise Unsupported(f"{kind} at {bits} bits shifts by {places} places, more than int64 has")
    magnitudes = _sums(bits - 1 if signed else bits) if kind == "apot" else {}
    return MappingProxyType({c: magnitudes.get(abs(c)) or _digits(abs(c)) for c in codes})


def _sums(bits: int) -> dict[int, tuple[int, ...]]:
    """Unsigned APoT codes as sums of one element, or none, of each term set.

    An element 2^-e of a term set is the code 2^(largest - e), so that all are whole. The codes of
    the first sets, each with its exponents, are taken together with every element of the next set
    in turn: after the last set these are all sums there are. Different choices have different sums,
    for the sets' exponents do not overlap.
    """
    sets = apot_terms(bits)
    largest = max(e for exponents in sets for e in exponents)
    found: dict[int, tuple[int, ...]] = {0: ()}
    for exponents in sets:
        steps = [(largest - e,) for e in exponents]
        found |= {
            sum(1 << e for e in (*old, *new)): (*old, *new)
            for old in list(found.values())
            for new in steps
        }
    return {s: tuple(sorted(places, reverse=True)) for s, places in found.items()}


def _digits(magnitude: int) -> tuple[int, ...]:
    """Places of the ones in a number, largest first."""
    return tuple(e for e in range(magnitude.bit_length() - 1, -1, -1) if magnitude >> e & 1)


def multiply(x: Ints, codes: Ints, table: Mapping[int, tuple[int, ...]]) -> Ints:
    """Products of activations and weight codes by shifts, additions and a sign.

    Args:
        x: int64, any shape.
        codes: int64, broadcasts with ``x``; every one is in ``table``.
        table: from :func:`shifts`.

    """
    places, sign = _places(codes, table)
    # x * (2^a + 2^b + ...) = (x << a) + (x << b) + ...: one term after the other, whole numbers all
    # the way, so that the sum is the product; -1 marks a code with fewer terms
    total = np.zeros(np.broadcast_shapes(x.shape, codes.shape), np.int64)
    for place in places:
        total += np.where(place >= 0, np.left_shift(x, np.maximum(place, 0)), 0)
    return np.where(sign, -total, total)


def _places(codes: Ints, table: Mapping[int, tuple[int, ...]]) -> tuple[Ints, NDArray[np.bool_]]:
    """(terms, ...) exponents of every code, and which codes are negative.

    A code with fewer terms than others has -1 in their place.
    """
    strange = set(np.unique(codes).tolist()) - set(table)
    if strange:
        raise Unsupported(f"codes {sorted(strange)[:5]} are no sums of the grid's powers of two")
    terms = max(1, *(len(e) for e in table.values()))
    known = np.array(sorted(table))
    padded = np.array([table[c] + (-1,) * (terms - len(table[c])) for c in known.tolist()])
    return np.moveaxis(padded[np.searchsorted(known, codes)], -1, 0), codes < 0


def accumulators(op: Conv, x: Ints, table: Mapping[int, tuple[int, ...]]) -> Ints:
    """Accumulators of a convolution or linear layer, bias included, without a multiplication.

    Args:
        op: with weight zero points of 0.
        x: int64 (N, C, H, W), input codes less their zero point.
        table: of the weights' grid.

    Returns:
        int64 (N, O, OH, OW).

    Raises:
        Unsupported: weights that are not on the grid, or have a zero point.

    """
    if op.weight_zero.any():
        raise Unsupported(
            f"layer {op.name!r} has zero points in its weights: sums of powers of two have none"
        )
    top, left, bottom, right = op.pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    outs, per_group, kh, kw = op.weight.shape
    (sy, sx), (dy, dx) = op.stride, op.dilation
    oh, ow = (x.shape[2] - (kh - 1) * dy - 1) // sy + 1, (x.shape[3] - (kw - 1) * dx - 1) // sx + 1
    acc = np.zeros((len(x), outs, oh, ow), np.int64) + op.bias.astype(np.int64)[:, None, None]
    first = np.arange(outs) // (outs // op.groups) * per_group  # input channel of every output
    for i, j in np.ndindex(kh, kw):
        rows = slice(i * dy, i * dy + (oh - 1) * sy + 1, sy)
        columns = slice(j * dx, j * dx + (ow - 1) * sx + 1, sx)
        tap = x[:, :, rows, columns]
        for c in range(per_group):
            weight = op.weight[:, c, i, j].astype(np.int64)[:, None, None]
            acc += multiply(tap[:, first + c], weight, table)
    return acc


@dataclass(frozen=True)
class Operations:
    """What one image costs, biases and requantization left out.

    Attributes:
        shifts: by more than zero places.
        additions: of shifted inputs into accumulators; weights of 0 cost nothing.
        multiplications: that an ordinary integer unit does, one for each weight and position.

    """

    shifts: int
    additions: int
    multiplications: int


def operations(program: Program, tables: Mapping[str, Mapping[int, tuple[int, ...]]]) -> Operations:
    """Count the work of the layers named in ``tables``, the exponents of each one's codes."""
    counts = np.zeros(3, np.int64)
    shapes = program.shapes
    for op in program.ops:
        if isinstance(op, Conv) and op.name in tables:
            _, h, w = shapes[op.output]
            places, _ = _places(op.weight.astype(np.int64), tables[op.name])
            counts += np.array([(places > 0).sum(), (places >= 0).sum(), op.weight.size]) * h * w
    return Operations(*counts.tolist())


def shift_and_add(program: Program, grids: Mapping[str, Grid]) -> dict[str, float]:
    """Operations a unit without multipliers needs for one image, beside an ordinary unit's.

    Numbers for a log. Layers without a grid, such as first and last ones, keep their
    multiplications. For a uniform grid these are the binary digits of its codes: what such a unit
    would need without the paper's levels.

    Args:
        program: the network.
        grids: of the weights of every layer that is to do without multiplications.

    Raises:
        Unsupported: weights that have zero points.

    """
    convs = [op for op in program.ops if isinstance(op, Conv)]
    count = operations(program, {n: shifts(g.kind, g.bits, signed=True) for n, g in grids.items()})
    shapes = program.shapes
    every = sum(op.weight.size * math.prod(shapes[op.output][1:]) for op in convs)
    return {
        "shift_and_add/shifts": float(count.shifts),
        "shift_and_add/additions": float(count.additions),
        "shift_and_add/multiplications_kept": float(every - count.multiplications),
        "shift_and_add/multiplications_of_integers": float(every),
    }


def tables(names: Iterable[str], kind: Kind, bits: int) -> dict[str, Mapping[int, tuple[int, ...]]]:
    """One grid for many layers."""
    return dict.fromkeys(names, shifts(kind, bits, signed=True))
