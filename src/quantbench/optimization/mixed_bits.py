"""Networks whose layers have different bits: their costs, and layers that change networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from quantbench.errors import BadInput
from quantbench.network.tracing import LayerInfo
from quantbench.quantization.levels import code_levels
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Scheme

Bits = tuple[int, int | None]  # of weights and of activations

LARGEST_CODE = 2**31 - 1


def cost(info: LayerInfo, bits: Bits, gain: str) -> float:
    """Bits of a layer's weights, or its bit operations (MACs times both widths)."""
    return float(info.params * bits[0] if gain == "size" else info.macs * bits[0] * (bits[1] or 32))


def uniform(scheme: Scheme, bits: Bits) -> Scheme:
    """The scheme with all layers at one choice of bits."""
    w, a = bits
    weights = replace(scheme.weights, bits=w)
    acts = replace(scheme.acts, bits=a) if scheme.acts and a else scheme.acts
    return replace(scheme, weights=weights, acts=acts, first_last_bits=None, overrides=())


def copy_layer(source: Quantized, target: Quantized, name: str) -> None:
    """Take over what one layer was calibrated to."""
    a, b = source.layer(name), target.layer(name)
    assert a.codes is not None
    assert a.qparams is not None
    b.set_codes(a.codes.float(), a.qparams)
    b.bias.data = a.bias.detach().clone()
    if a.act is not None and b.act is not None:
        b.act.set(a.act.qparams)


def no_such_bits(scheme: Scheme, weights: Iterable[int], acts: Iterable[int]) -> str | None:
    """Why a layer cannot have some of these bits under the scheme; ``None`` if it can have all.

    Grids of powers of two are defined for few bits, and their codes grow fast.
    """
    grids = [replace(scheme.weights, bits=b) for b in weights]
    grids += [replace(scheme.acts, bits=b) for b in acts] if scheme.acts else []
    for grid in grids:
        try:
            largest = code_levels(grid.kind, grid.bits, signed=grid.symmetric)[-1]
        except BadInput as e:
            return f"bits are chosen among {grid.bits} and others: {e}"
        if largest > LARGEST_CODE:
            why = f"the codes of {grid.kind} grids at {grid.bits} bits do not fit 32 bits"
            return f"bits are chosen among {grid.bits} and others, and {why}"
    return None


@contextmanager
def swapped(rest: Quantized, other: Quantized, name: str) -> Iterator[None]:
    """One layer of another network in this one's place."""
    parent, _, leaf = name.rpartition(".")
    holder: Any = rest.model.get_submodule(parent)
    own = rest.layer(name)
    setattr(holder, leaf, other.layer(name))
    try:
        yield
    finally:
        setattr(holder, leaf, own)
