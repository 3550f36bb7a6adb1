"""Networks whose layers have different bits: their costs, and layers that change networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from quantbench.network.tracing import LayerInfo
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Scheme

Bits = tuple[int, int | None]  # of weights and of activations


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
