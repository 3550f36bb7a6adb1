"""A quantized network as an integer program.

Every quantizer says in which format the expression in front of it is made. Calls are known by their
words (``quantization.placement.kinds``). A word that is an operator's name in small letters becomes
that operator, with the call's parameters as its fields; the words below, and sums, take more care.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from quantbench.errors import Unsupported
from quantbench.integer import ir
from quantbench.integer.lowering.agreement import require_agreement
from quantbench.integer.lowering.convolution import affine, conv
from quantbench.integer.lowering.formats import (
    Clamp,
    act_format,
    bounds,
    nearest_level,
    table,
    whole,
)
from quantbench.integer.lowering.islands import island, shape
from quantbench.integer.simulate import Simulation
from quantbench.integer.validate import validate
from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.graph import record_operators
from quantbench.quantization.placement.kinds import SUMS
from quantbench.quantization.placement.place import Graph
from quantbench.quantization.quantized import Quantized


def lower(q: Quantized) -> ir.Program:
    """The integer program of a network that was quantized under an ``integer`` placement.

    Raises:
        Unsupported: another placement, an operator whose numbers have no integer form, or a program
            that is another function than the simulation.
        BadInput: layers without codes, or ranges that were never calibrated.

    """
    q.require_complete()
    if q.scheme.placement != "integer":
        raise Unsupported(
            f"scheme {q.scheme} quantizes the layers' inputs alone: only a network with "
            "placement='integer', where residual adds, concatenations and pools are quantized too, "
            "runs on integers"
        )
    (sample,) = q.net.sample
    with q.full_precision_acts():
        graph = Graph(record_operators(q.model, sample[:1]).nodes)
    program = _Lowering(graph).program()
    validate(program)
    require_agreement(program, q)
    return program


def executable(q: Quantized) -> Callable[..., Tensor]:
    """What evaluation runs: the integer form for ``integer`` placement, else the simulation.

    Its output has the shape of the network's: a program itself gives (N, outputs).
    """
    if q.scheme.placement != "integer":
        return q.fake()
    program = Simulation(lower(q), q.net.device)
    shape = q.net.sample_output.shape[1:]
    given = program.program.shape
    return lambda x: program(x.reshape(len(x), *given)).reshape(len(x), *shape)


# operators that calls become whose words are not the operator's name
OTHER_WORDS: dict[type[ir.Op], tuple[str, ...]] = {
    ir.Conv: SUMS,
    ir.Lut: ("lut", "clamp"),
    ir.Dequantize: ("output",),
    ir.Island: ("other",),
}

_NAMED = {op.__name__.lower(): op for op in ir.OPERATORS}


class _Lowering:
    """Appends operators; remembers in which tensor a call's codes are."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops: list[ir.Op] = []
        self.formats: dict[str, ir.Format] = {}
        self.tensors: dict[Node, str] = {}

    def program(self) -> ir.Program:
        """Lower everything, in execution order."""
        entry, *_, end = self.graph.nodes
        for node in self.graph.nodes:
            if self.graph.kinds[node].word == "quant":
                self.codes(node)
        self._logits(self.graph.source(end.inputs[0]))
        return ir.Program(self.formats["input"], shape(entry), tuple(self.ops))

    def _logits(self, node: Node) -> None:
        """The network's output in float32."""
        word = self.graph.kinds[node].word
        if word == "flatten":
            layer = self.graph.source(node.inputs[0])
            if self.graph.kinds[layer].word == "layer":  # the values in the same order
                node, word = layer, "layer"
        if word in SUMS:
            self._layer(node, None, "logits", whole(ir.Format(1.0, 0)))
        elif word == "other":
            self._island(node, None, "logits")
        elif word == "resize":
            self._plain(node, None, "logits")
        else:
            x = self.codes(node)
            self._push(ir.Dequantize(name="output", inputs=(x,), output="logits", out=None))

    def codes(self, node: Node) -> str:
        """Name of the tensor that holds a call's codes."""
        node = self.graph.source(node)
        if self.graph.kinds[node].word == "input" and "input" in self.formats:
            return "input"  # an island that only takes its size
        if node not in self.tensors:
            quant = self.graph.kinds[node].word == "quant"
            self.tensors[node] = self._quantize(node) if quant else self._kept(node)
        return self.tensors[node]

    def _kept(self, node: Node) -> str:
        """An operator on codes that keep their format."""
        word, params = self.graph.kinds[node].word, self.graph.kinds[node].params
        made = _NAMED.get(word)
        if word != "clamp" and (made is None or not made.keeps_format):
            raise Unsupported(
                f"{node.name}: its result is not quantized, so nothing behind it can run on "
                "integers"
            )
        x = self.codes(node.inputs[0])
        f = self.formats[x]
        common: dict[str, Any] = {"name": node.name, "inputs": (x,), "output": node.name, "out": f}
        if made is not None:
            return self._push(made(**common, **params))
        table = np.clip(np.arange(256), *bounds(**params, y=f)).astype(np.uint8)
        return self._push(ir.Lut(**common, table=table))

    def _quantize(self, node: Node) -> str:
        y, levels = act_format(node.target.qparams, node.name)
        source = self.graph.source(node.inputs[0])
        if self.graph.kinds[source].word == "input":
            if len(levels) != y.hi - y.lo + 1:
                raise Unsupported(f"{node.name}: the network input needs a uniform grid")
            self.formats["input"] = y
            return "input"
        if len(levels) == y.hi - y.lo + 1:
            return self.emit(source, y, node.name)
        factor = 255 // y.hi  # as fine a uniform grid as there is, then the nearest level
        fine = ir.Format(y.scale / factor, y.zero * factor, 0, y.hi * factor)
        x = self.emit(source, fine, f"{node.name}.fine")
        codes = nearest_level(levels, factor)
        return self._push(ir.Lut(name=node.name, inputs=(x,), output=node.name, out=y, table=codes))

    def emit(self, node: Node, y: ir.Format, output: str, clamp: Clamp | None = None) -> str:
        """Make a call's value in a given format; returns the tensor's name."""
        node = self.graph.source(node)
        kind, clamp = self.graph.kinds[node], clamp or whole(y)
        if self._clamps_sums(node):
            return self.emit(node.inputs[0], y, output, bounds(**kind.params, y=y))
        if self._sums(node):
            make = self._add if kind.word == "add" else self._layer
            return make(node, y, output, clamp)
        if kind.word in _EMIT:
            return _EMIT[kind.word](self, node, y, output)
        made = _NAMED.get(kind.word)
        if made is not None and not made.keeps_format:
            return self._plain(node, y, output)
        x = self.codes(node)
        if self.formats[x] == y:
            return x
        return self._push(ir.Concat(name=node.name, inputs=(x,), output=output, out=y))

    def _plain(self, node: Node, y: ir.Format | None, output: str) -> str:
        """The operator that the call's word names, with the call's parameters as its fields."""
        made, params = _NAMED[self.graph.kinds[node].word], self.graph.kinds[node].params
        inputs = tuple(self.codes(n) for n in node.inputs)
        return self._push(made(name=node.name, output=output, out=y, inputs=inputs, **params))

    def _concat(self, node: Node, y: ir.Format, output: str) -> str:
        parts = [self._part(part, y, f"{output}.{i}") for i, part in enumerate(node.inputs)]
        return self._push(ir.Concat(name=node.name, output=output, out=y, inputs=tuple(parts)))

    def _part(self, node: Node, y: ir.Format, output: str) -> str:
        """One input of a concatenation: made in its format if it has no quantizer of its own."""
        node = self.graph.source(node)
        if self._sums(node) or self._clamps_sums(node):
            return self.emit(node, y, output)
        return self.codes(node)

    def _sums(self, node: Node) -> bool:
        return self.graph.kinds[node].word in (*SUMS, "add")

    def _clamps_sums(self, node: Node) -> bool:
        clamps = self.graph.kinds[node].word == "clamp"
        return clamps and self._sums(self.graph.source(node.inputs[0]))

    def _layer(
        self, node: Node, y: ir.Format | None, output: str, clamp: Clamp, residual: str = ""
    ) -> str:
        (before,) = (n for n in node.inputs if not n.constant)  # else a learnt scale
        source, pads = self.graph.source(before), (0, 0, 0, 0)
        pad = self.graph.kinds[source]
        if pad.word == "pad" and pad.params["stride"] == (1, 1) and not any(pad.params["pads"][:2]):
            source, pads = self.graph.source(source.inputs[0]), pad.params["pads"][2:]
        x = self.codes(source)
        inputs = (x, residual) if residual else (x,)
        kind = self.graph.kinds[node]
        if kind.word == "affine":
            where = (node.name, inputs, self.formats[x], y, output)
            return self._push(affine(*where, clamp, **kind.params))
        return self._push(conv(node.target, inputs, self.formats[x], y, output, clamp, pads))

    def _add(self, node: Node, y: ir.Format, output: str, clamp: Clamp) -> str:
        operands = [self.graph.source(n) for n in node.inputs]
        layer = self.graph.fused(node)
        if layer is not None:
            (other,) = (n for n in operands if n is not layer)
            return self._layer(layer, y, output, clamp, self.codes(other))
        inputs = tuple(self.codes(n) for n in operands)
        lo, hi = (int(bound) for bound in clamp)
        return self._push(ir.Add(name=node.name, inputs=inputs, output=output, out=y, lo=lo, hi=hi))

    def _lut(self, node: Node, y: ir.Format, output: str) -> str:
        before = node.inputs[0]
        x = self.codes(before)

        def function(values: Tensor) -> Tensor:
            example = values.reshape(-1, *(1,) * (before.example.dim() - 1))
            result: Tensor = node.run({before: example})
            return result.reshape(-1)

        codes = table(function, self.formats[x], y, node.name)
        return self._push(ir.Lut(name=node.name, inputs=(x,), output=output, out=y, table=codes))

    def _island(self, node: Node, y: ir.Format | None, output: str) -> str:
        sources, function = island(node, self.graph.nodes, self.graph.kinds)
        inputs = tuple(self.codes(n) for n in sources)
        why = self.graph.kinds[node].why
        made = ir.Island(
            name=node.name,
            inputs=inputs,
            output=output,
            out=y,
            function=function,
            shape=shape(node),
            reason=why,
        )
        return self._push(made)

    def _push(self, op: ir.Op) -> str:
        self.ops.append(op)
        if op.out is not None:
            self.formats[op.output] = op.out
        return op.output


_EMIT: dict[str, Callable[[_Lowering, Node, ir.Format, str], str]] = {
    "concat": _Lowering._concat,  # noqa: SLF001 - the class's own table
    "lut": _Lowering._lut,  # noqa: SLF001
    "other": _Lowering._island,  # noqa: SLF001
}
