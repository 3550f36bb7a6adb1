"""Schemes and methods in words, for the command line and the reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from quantbench.quantization.scheme import Grid, Scheme

WHERE = {
    "inputs": "layer inputs",
    "outputs": "outputs of layers and blocks",
    "shared": "layer inputs, one quantizer a tensor, shortcuts with them",
    "attention": "layer inputs, the operands of attention's products and the input of its softmax",
    "integer": "every tensor of the integer network",
}


def call(method: str, fields: Iterable[tuple[str, Any]]) -> str:
    """A method with its overrides, such as ``adaround(iterations=20000)``."""
    given = ", ".join(f"{k}={v}" for k, v in fields)
    return f"{method}({given})" if given else method


def grid_words(grid: Grid) -> str:
    """A grid in words, such as ``4 bits uniform symmetric per tensor, range mse``."""
    sign = "symmetric" if grid.symmetric else "asymmetric"
    per = "channel" if grid.per_channel else "tensor"
    return f"{grid.bits} bits {grid.kind} {sign} per {per}, range {grid.range}"


def scheme_words(scheme: Scheme) -> str:
    """A scheme in words, with everything that its short name leaves out."""
    acts = "activations in full precision"
    if scheme.acts:
        acts = f"activations {grid_words(scheme.acts)}, at {WHERE[scheme.placement]}"
    edge = "all layers alike"
    if scheme.first_last_bits:
        edge = f"first and last layer at {scheme.first_last_bits} bits"
        if scheme.acts and scheme.edge_acts == "outputs":
            edge += ", of activations the outputs of the first and of the last but one"
    mixed = [
        f"{o.layer} at {o.weights}" + (f"/{o.acts}" if o.acts else "") for o in scheme.overrides
    ]
    weights = f"{scheme}: weights {grid_words(scheme.weights)}"
    return "; ".join((weights, acts, edge, *mixed))


def apart(theirs: Scheme, ours: Scheme) -> str:
    """What one scheme has otherwise than another, such as ``acts.range=minmax``; may be empty."""
    here = dict(_values(ours))
    return ", ".join(f"{k}={v}" for k, v in _values(theirs) if here.get(k) != v)


def _values(value: object, path: str = "") -> Iterable[tuple[str, object]]:
    """Nested fields by dotted path."""
    if not is_dataclass(value):
        yield path, value
        return
    for field in fields(value):
        inner = f"{path}.{field.name}" if path else field.name
        yield from _values(getattr(value, field.name), inner)
