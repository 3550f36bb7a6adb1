"""Bits, bytes and bit operations of a finished run, layer by layer.

The quantized network that a run leaves says how many levels each layer has. Sizes and
multiply-accumulates are those of the full-precision network, which is loaded once for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from quantbench.data.roots import cache_root
from quantbench.errors import QuantbenchError
from quantbench.report.charts.layers import LayerBits
from quantbench.runs.cell import MEASURE
from quantbench.runs.source_hash import source_hashes
from quantbench.system.atomic import write_atomically
from quantbench.tasks.registry import module_of

if TYPE_CHECKING:
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab

FLOAT = 32  # bits


@dataclass(frozen=True)
class Size:
    """What of a layer does not depend on the scheme."""

    name: str
    params: int
    macs: int
    edge: bool


def layer_bits(lab: Lab, cell: Cell) -> tuple[LayerBits, ...]:
    """Every layer's bits; none where the run left no network, or the original is not here."""
    path = lab.runs / "quantized" / cell.key() / "quantized.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        levels, acts = held["levels"], held["acts"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(
        LayerBits(s.name, _bits(levels[s.name]), _act_bits(cell, s, acts), s.params, s.macs)
        for s in _sizes(lab, cell)
        if s.name in levels
    )


def operations(layers: Sequence[LayerBits]) -> float:
    """Multiply-accumulates times the bits of both operands, over all layers of an example."""
    return float(sum(one.macs * one.weights * one.acts for one in layers))


def mean_bits(layers: Sequence[LayerBits]) -> float:
    """Bits of a weight, mean over all weights."""
    return sum(one.params * one.weights for one in layers) / sum(one.params for one in layers)


def _bits(levels: Sequence[Any]) -> int:
    """Bits that number so many levels."""
    return max(1, (len(levels) - 1).bit_length())


def _act_bits(cell: Cell, size: Size, acts: dict[str, list[int]]) -> int:
    if own := acts.get(f"{size.name}.act"):
        return _bits(own)
    grid = cell.scheme.act_grid(size.name, edge=size.edge) if cell.scheme else None
    return grid.bits if grid else FLOAT


def _sizes(lab: Lab, cell: Cell) -> list[Size]:
    """Of the cell's full-precision network; kept by all that its layers depend on."""
    key = hashlib.sha256(_about(cell).encode()).hexdigest()[:24]
    path = cache_root() / "report" / f"layers-{key}.json"
    with suppress(OSError, ValueError, TypeError):
        return [Size(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    try:
        net = lab.network(cell)
    except (QuantbenchError, AssertionError):
        return []
    found = [Size(i.name, i.params, i.macs, i.name in net.edges) for i in net.layers]
    with suppress(QuantbenchError):  # a full disk only costs the next report its time
        write_atomically(path, json.dumps([asdict(size) for size in found]))
    return found


def _about(cell: Cell) -> str:
    """Name, weights and code of the network, and the set, whose examples' size it works on."""
    code = source_hashes({MEASURE, module_of(cell.model)} - {""})
    about = (cell.model, cell.checkpoint, cell.eval_data, cell.eval_digest, code)
    return json.dumps(about, sort_keys=True)
