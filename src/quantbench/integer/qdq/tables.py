"""Which float tensors are functions of one tensor of codes, and their 256 values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from quantbench.integer.ir import Codes, Lut
from quantbench.integer.qdq import functions
from quantbench.integer.qdq.constants import constant_codes
from quantbench.integer.qdq.functions import ELEMENTWISE, Values
from quantbench.integer.qdq.graph import Array, attribute
from quantbench.integer.qdq.state import State

DEEPEST = 64  # elementwise operators between two quantizations


@dataclass(frozen=True, eq=False)
class Table:
    """Values of a function of codes.

    Attributes:
        codes: name of the program's tensor that it reads.
        values: float32 (256,).
        clamps_only: whether it is a Relu or Clip of those codes, which keeps their format.

    """

    codes: str
    values: Values
    clamps_only: bool = False


class Tables:
    """Finds them; remembers which tensors of codes are such functions themselves.

    Attributes:
        made: (codes that were read, table of codes), by the name of what was made.

    """

    def __init__(self, reader: State) -> None:
        self.reader = reader
        self.made: dict[str, tuple[str, Codes]] = {}

    def of(self, tensor: str, depth: int = 0) -> Table | None:
        """The table of a float tensor; None where it is no function of one tensor.

        Raises:
            Unsupported: a function that is not a number somewhere.

        """
        r = self.reader
        if (kept := r.kept(tensor)) is not None:
            values = functions.real(np.arange(256), r.formats[kept])
            return Table(kept, values, clamps_only=True)
        node = r.graph.makers.get(tensor)
        if node is None or node.op_type not in ELEMENTWISE or depth > DEEPEST:
            return None
        bounds = node.op_type == "Clip"  # of which the lower one alone may be left out
        given = [i for i, n in enumerate(node.input) if n or bounds]
        parts = [self._part(node, i, depth) for i in given]
        tables = self._alike([p for p in parts if isinstance(p, Table)])
        if tables is None or any(p is None for p in parts):
            return None
        left = iter(tables)
        inputs = [next(left).values if isinstance(p, Table) else np.asarray(p) for p in parts]
        found = functions.apply(node, inputs)
        if np.isnan(found).any():
            raise r.graph.refuse(node, "is not a number for some codes")
        clamps = node.op_type in ("Relu", "Clip") and all(t.clamps_only for t in tables)
        return Table(tables[0].codes, np.broadcast_to(found, (256,)), clamps_only=clamps)

    def _part(self, node: onnx.NodeProto, i: int, depth: int) -> Table | Values | None:
        """One input: a table, or a number; of a bound that is left out, what holds without it."""
        name = node.input[i]
        if not name:
            return np.asarray(np.inf if i == 2 else -np.inf, np.float32)
        if name in self.reader.graph.constants:
            return _number(self.reader.graph.constants[name])
        if (codes := constant_codes(self.reader.graph, name)) is not None:
            steps = (codes.codes - codes.zero).astype(np.float32)
            return _number(steps * codes.scale) if codes.scale.size == 1 else None
        return self.of(name, depth + 1)

    def stored(self, node: onnx.NodeProto) -> str | None:
        """A table of codes in the file, as our own export writes it; None for another Gather.

        Raises:
            Unsupported: a table of other than 256 codes, or indices that may be negative.

        """
        r = self.reader
        cast, table = r.graph.makers.get(node.input[1]), r.graph.constants.get(node.input[0])
        if table is None or cast is None or cast.op_type != "Cast":
            return None
        x = r.tensors.get(cast.input[0])
        if x is None:
            return None
        if (table.shape, table.dtype.name) != ((256,), "uint8") or attribute(node, "axis", 0):
            raise r.graph.refuse(node, f"a table of {table.shape} {table.dtype.name}")
        if cast.input[0] not in r.graph.unsigned:
            raise r.graph.refuse(node, "looks up codes that are not known to be uint8")
        y = r.graph.format_behind(node)
        name, made = node.name or node.output[0], r.name(node.output[0])
        return r.push(Lut(name=name, inputs=(x,), output=made, out=y, table=table.copy()))

    def _alike(self, tables: list[Table]) -> list[Table] | None:
        """All as functions of the same codes: of what a table in front of them read, if need be."""
        if not tables or len({t.codes for t in tables}) == 1:
            return tables or None
        roots = {t.codes for t in tables} | {self.made.get(t.codes, ("",))[0] for t in tables}
        for root in roots - {""}:
            seen = [self._from(t, root) for t in tables]
            if all(s is not None for s in seen):
                return [s for s in seen if s is not None]
        return None

    def _from(self, table: Table, root: str) -> Table | None:
        if table.codes == root:
            return table
        source, codes = self.made.get(table.codes, ("", np.zeros(0, np.uint8)))
        return Table(root, table.values[codes]) if source == root else None


def _number(value: Array) -> Values | None:
    """A constant of one element."""
    return np.asarray(value, np.float32).reshape(()) if value.size == 1 else None
