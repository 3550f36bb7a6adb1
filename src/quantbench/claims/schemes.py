"""Cells of tables by name, such as ``w4a8-channel``, as quantization schemes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quantbench.errors import BadInput, did_you_mean
from quantbench.quantization.scheme import Grid, Override, Scheme

CELL = re.compile(r"w(\d+)(?:a(\d+))?(?:-([\w-]+))?")


def scheme(cell: str, tables: Mapping[str, Mapping[str, Any]]) -> Scheme:
    """``w4a8-channel`` as a scheme: bits from the name, all else from ``[schemes.channel]``.

    Args:
        cell: ``w<bits>[a<bits>]`` and, after a hyphen, a name from ``tables``; ``default`` without.
        tables: the ``[schemes]`` of a file, checked by :data:`quantbench.claims.schema.SCHEME`.

    Raises:
        BadInput: no such form or name, or activations that the table does not describe.

    """
    if not (m := CELL.fullmatch(cell)):
        raise BadInput(
            f"cell {cell!r}: name it fp, w4, w4a8, or w4a8-NAME with NAME from [schemes]"
        )
    name = m[3] or "default"
    if name not in tables:
        raise BadInput(f"{name!r} is not in [schemes]{did_you_mean(name, tables)}")
    s = tables[name]
    if m[2] and "acts" not in s:
        raise BadInput(f"cell {cell!r} quantizes activations, and [schemes.{name}] has no acts")
    parts = (("weights", m[1]), ("acts", m[2]))
    grids = {part: Grid(int(bits), **s[part]) for part, bits in parts if bits}
    overrides = tuple(_override(layer, bits) for layer, bits in s.get("overrides", {}).items())
    found = Scheme(**{**s, "acts": None, **grids, "overrides": overrides})
    for override in overrides:
        found.act_grid(override.layer)  # bits that no grid has are an error here
    return found


def _override(layer: str, bits: object) -> Override:
    """Bits of one layer: of its weights, or a list of those and of its input's."""
    match bits:
        case int() | [int()] | [int(), int()]:
            return Override(layer, *(bits if isinstance(bits, list) else [bits]))
    raise BadInput(
        f"overrides of {layer!r}: {bits!r}; "
        "write its weight bits, such as 4, or [4, 8] with its input's"
    )
