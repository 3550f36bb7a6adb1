"""What is quantized: grids and schemes, as plain frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from quantbench.errors import BadInput

Kind = Literal["uniform", "apot", "pot", "lloyd"]

Placement = Literal["inputs", "outputs", "shared", "attention", "integer"]

PLACEMENTS: tuple[str, ...] = get_args(Placement)

_RANGE = re.compile(r"minmax|mse|output_mse|lp(\d+(\.\d+)?)|percentile(\d+(\.\d+)?)")


@dataclass(frozen=True)
class Grid:
    """A family of representable values and the way its range is found.

    Attributes:
        bits: 2 to 8.
        kind: ``uniform``, ``apot`` (additive powers of two), ``pot`` (powers of two) or ``lloyd``
            (those of least squared error for a bell; no integer arithmetic is meant for them).
        symmetric: zero point fixed at 0 (signed where the data is).
        per_channel: one scale per output channel instead of one per tensor.
        range: ``minmax``, ``mse``, ``lp2.4``, ``percentile99.99`` or ``output_mse`` (AdaRound,
            table 6).

    Raises:
        BadInput: bits outside 2..8, an unknown kind or range estimator.

    """

    bits: int
    kind: Kind = "uniform"
    symmetric: bool = True
    per_channel: bool = False
    range: str = "mse"

    def __post_init__(self) -> None:
        """Reject what no grid can be, at the moment it is written down."""
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise BadInput(f"{self.bits!r} bits: a grid has a whole number of bits from 2 to 8")
        if self.kind not in get_args(Kind):
            raise BadInput(f"grid kind {self.kind!r}: choose uniform, apot, pot or lloyd")
        if not _RANGE.fullmatch(self.range):
            raise BadInput(
                f"range {self.range!r}: choose minmax, mse, lp2.4, percentile99.99 or output_mse"
            )
        if self.range.startswith("percentile"):
            keep = float(self.range.removeprefix("percentile"))
            if not 50 < keep <= 100:
                raise BadInput(f"range {self.range!r}: a percentile lies above 50, at most at 100")
        if self.range.startswith("lp") and not float(self.range.removeprefix("lp")) > 0:
            raise BadInput(f"range {self.range!r}: the power has to be above 0")


@dataclass(frozen=True)
class Override:
    """Bits of one layer in a mixed-precision scheme; ``acts=None`` keeps the scheme's own."""

    layer: str
    weights: int
    acts: int | None = None


@dataclass(frozen=True)
class Scheme:
    """What is quantized, and where.

    Attributes:
        weights: the weight grid.
        acts: the activation grid; ``None`` leaves activations in full precision (the papers'
            "A32").
        placement: ``inputs`` quantizes what every layer reads, each on its own, and leaves residual
            adds and shortcuts in full precision; ``outputs`` what layers and blocks give, one
            quantizer a tensor, so that shortcuts are quantized, too, and the network's input is not
            (the simulations of BRECQ and QDrop); ``shared`` what layers read, one quantizer a
            tensor behind which all its readers are, the shortcut among them (MQBench's academic
            setting); ``attention`` as ``inputs``, and the operands of both products of every
            attention and the input of its softmax, with the same grid; ``integer`` every tensor
            (network input, layer outputs after their activation function, adds, concatenations,
            pools), so that the network can run on integers.
        first_last_bits: bits of the first and last layers' weights and inputs, on uniform grids
            whatever the rest has; ``None`` treats them like the rest.
        edge_acts: which activations ``first_last_bits`` speaks of: ``inputs`` of the first and the
            last layer, or, under placement ``outputs`` alone, ``outputs`` of the first layer and of
            the last but one. The latter is BRECQ's released code; where the last but one goes into
            a residual add, as in a ResNet, it has no quantizer, and the last layer reads the few
            bits. The former is QDrop's and MQBench's.
        overrides: mixed precision; wins over ``first_last_bits``.
        which: ``all`` layers, or the ``first`` alone (AdaRound, tables 1 to 3).

    """

    weights: Grid
    acts: Grid | None = None
    placement: Placement = "inputs"
    first_last_bits: int | None = None
    overrides: tuple[Override, ...] = ()
    which: Literal["all", "first"] = "all"
    edge_acts: Literal["inputs", "outputs"] = "inputs"

    def __post_init__(self) -> None:
        """Reject an unknown placement, bits that no grid has, and activations by channel."""
        if self.acts is not None and self.acts.per_channel:
            raise BadInput(
                "a grid for each channel of the activations: no integer product has one, since its "
                "sum runs over the channels; use per_channel=False for acts"
            )
        if self.placement not in PLACEMENTS:
            raise BadInput(f"placement {self.placement!r}: choose {', '.join(PLACEMENTS)}")
        if self.edge_acts not in ("inputs", "outputs"):
            raise BadInput(f"edge_acts {self.edge_acts!r}: choose inputs or outputs")
        if self.edge_acts == "outputs" and self.placement != "outputs":
            raise BadInput(
                f"edge_acts 'outputs' under placement {self.placement!r}: only under placement "
                "'outputs' do quantizers belong to outputs of layers"
            )
        if self.which not in ("all", "first"):
            raise BadInput(f"which layers: {self.which!r}; choose all or first")
        if self.first_last_bits is not None:
            replace(self.weights, bits=self.first_last_bits)
        for o in self.overrides:
            replace(self.weights, bits=o.weights)

    def __str__(self) -> str:
        """Short name, such as ``w4a8``; weight-only is ``w4``."""
        return f"w{self.weights.bits}" + (f"a{self.acts.bits}" if self.acts else "")

    def weight_grid(self, layer: str, *, edge: bool = False) -> Grid:
        """Grid of one layer's weights; ``edge`` marks the first and the last layer."""
        grid = self._edge(self.weights) if edge else self.weights
        for o in self.overrides:
            if o.layer == layer:
                grid = replace(self.weights, bits=o.weights)
        return grid

    def act_grid(self, layer: str, *, edge: bool = False) -> Grid | None:
        """Grid of one layer's input activation, or ``None`` in full precision."""
        if self.acts is None:
            return None
        grid = self._edge(self.acts) if edge else self.acts
        for o in self.overrides:
            if o.layer == layer and o.acts is not None:
                grid = replace(self.acts, bits=o.acts)
        return grid

    def _edge(self, grid: Grid) -> Grid:
        """Grid of the first and the last layer."""
        if not self.first_last_bits:
            return grid
        return replace(grid, bits=self.first_last_bits, kind="uniform")
