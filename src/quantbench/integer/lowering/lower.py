"""A quantized network as an integer program.

Every quantizer says in which format the expression in front of it is made. Calls are known by their
words (``quantization.placement.kinds``). A word that is an operator's name in small letters becomes
that operator, with the call's parameters as its fields; the words below, and sums, take more care.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from quantbench.errors import Unsupported
from quantbench.integer import ir
from quantbench.integer.lowering.agreement import require_agreement
from quantbench.integer.lowering.convolution import affine, conv
from quantbench.integer.lowering.distance import require_near
from quantbench.integer.lowering.formats import (
    Clamp,
    act_format,
    bounds,
    nearest_level,
    table,
    whole,
)
from quantbench.integer.lowering.islands import island, shape
from quantbench.integer.lowering.order import Ordered, first_name
from quantbench.integer.lowering.slopes import prelu
from quantbench.integer.lowering.volumes import spread
from quantbench.integer.simulate import Simulation
from quantbench.integer.validate import validate
from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.graph import record_operators
from quantbench.quantization.placement.kinds import SUMS, VOLUME, Kind, plane
from quantbench.quantization.placement.place import MOVES, Graph
from quantbench.quantization.quantized import Quantized


def lower(q: Quantized) -> ir.Program:
    """The integer program of a network that was quantized under an ``integer`` placement.

    Raises:
        Unsupported: another placement, an operator whose numbers have no integer form, or a program
            that is another function than the simulation.
        BadInput: layers without codes, or ranges that were never calibrated.

    Warns:
        UserWarning: the program's output is far from the float network's on its sample, though
            every grid has at least 8 bits; names the first tensor that is.

    """
    q.require_complete()
    if q.scheme.placement != "integer":
        raise Unsupported(
            f"scheme {q.scheme} quantizes the layers' inputs alone: only a network with "
            "placement='integer', where residual adds, concatenations and pools are quantized too, "
            "runs on integers"
        )
    (sample,) = q.net.sample
    program = _lowered(q, sample[:1])
    validate(program)
    require_near(program, q, require_agreement(program, q))
    return program


def _lowered(q: Quantized, sample: Tensor) -> ir.Program:
    """A module with a result inside that has no quantizer (``place``) is an island as a whole."""
    opaque: dict[nn.Module, str] = {}
    while True:
        with q.full_precision_acts():
            graph = Graph(record_operators(q.model, sample, opaque).nodes)
        try:
            return _Lowering(graph).program()
        except _NotQuantized as e:
            module = q.model.get_submodule(e.node.container)
            if not e.node.container or module in opaque:
                raise
            opaque[module] = f"{type(module).__name__}: what {e.node.name} in it gives has no codes"


class _NotQuantized(Unsupported):
    """A call behind which no quantizer is."""

    def __init__(self, node: Node) -> None:
        self.node = node
        why = "its result is not quantized, so nothing behind it can run on integers"
        super().__init__(f"{node.name}: {why}")


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


class _Lowering(Ordered):
    """Appends operators; remembers in which tensor a call's codes are."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
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
        word, made, turned = self.graph.kinds[node].word, node, False
        while self.graph.kinds[made].word in MOVES:
            moved = self.graph.kinds[made]
            axes = moved.params.get("axes", ())
            turned |= moved.word == "rearrange" and list(axes) != sorted(axes)
            made = self.graph.source(made.inputs[0])
        kind = self.graph.kinds[made]
        if kind.word == "other" or (kind.word in SUMS and (turned or kind.axis)):
            self._island(node, None, "logits")
        elif kind.word in SUMS:  # the values in the same order
            self._layer(made, None, "logits", whole(ir.Format(1.0, 0)))
        elif word == "resize":
            self._plain(node, None, "logits")
        else:
            x = self.codes(node)
            self.push(ir.Dequantize(name="output", inputs=(x,), output="logits", out=None))

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
            raise _NotQuantized(node)
        kind = self.graph.kinds[node]
        x = self._front(node.inputs[0], kind.axis)
        f, output = self.formats[x], first_name(node.name, node, kind)
        common: dict[str, Any] = {"name": node.name, "inputs": (x,), "output": output, "out": f}
        if made is not None:
            return self.back(self.push(made(**common, **params)), node, node.name)
        table = np.clip(np.arange(256), *bounds(**params, y=f)).astype(np.uint8)
        return self.push(ir.Lut(**common, table=table))

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
        return self.push(ir.Lut(name=node.name, inputs=(x,), output=node.name, out=y, table=codes))

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
        return self.push(ir.Concat(name=node.name, inputs=(x,), output=output, out=y))

    def _plain(self, node: Node, y: ir.Format | None, output: str) -> str:
        """The operator that the call's word names, with the call's parameters as its fields."""
        kind = self.graph.kinds[node]
        inputs = tuple(self._front(n, kind.axis) for n in node.inputs)
        common: dict[str, Any] = {"name": node.name, "out": y, "inputs": inputs, **kind.params}
        made = self.push(_NAMED[kind.word](output=first_name(output, node, kind), **common))
        return self.back(made, node, output)

    def _front(self, node: Node, axis: int) -> str:
        """The codes of a call's value, one of its directions in front."""
        return self.turned(self.codes(node), node, axis)

    def _concat(self, node: Node, y: ir.Format, output: str) -> str:
        kind, parts = self.graph.kinds[node], []
        for i, part in enumerate(node.inputs):
            parts.append(self.turned(self._part(part, y, f"{output}.{i}"), part, kind.axis))
        made = first_name(output, node, kind)
        op = ir.Concat(name=node.name, output=made, out=y, inputs=tuple(parts))
        return self.back(self.push(op), node, output)

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
        self,
        node: Node,
        y: ir.Format | None,
        output: str,
        clamp: Clamp,
        residual: Node | None = None,
    ) -> str:
        (before,) = (n for n in node.inputs if not n.constant)  # else a learnt scale
        source, pads = self.graph.source(before), (0, 0, 0, 0)
        kind, pad = self.graph.kinds[node], self.graph.kinds[source]
        geometry = getattr(node.target, "geometry", None)
        by = (1, *geometry.spread)[-2:] if geometry else (1, 1)
        if kind.word == "layer" and kind.axis == 0 and by == (1, 1) and _around(pad):
            before, pads = source.inputs[0], pad.params["pads"][2:]
        x = self._front(before, kind.axis)
        if by != (1, 1):
            x = spread(self, x, node.name, plane(before.example.shape), by)
        inputs = (x,) if residual is None else (x, self._front(residual, kind.axis))
        where = (inputs, self.formats[x], y, first_name(output, node, kind), clamp)
        if kind.word == "affine":
            made = affine(node.name, *where, **kind.params)
        else:
            depth = before.example.shape[2] if kind.axis == VOLUME else 0
            made = conv(node.target, *where, pads, depth)
        return self.back(self.push(made), node, output)

    def _add(self, node: Node, y: ir.Format, output: str, clamp: Clamp) -> str:
        layer = self.graph.fused(node)
        if layer is not None:  # the operand itself, which may have another rank than its source
            (other,) = (n for n in node.inputs if self.graph.source(n) is not layer)
            return self._layer(layer, y, output, clamp, other)
        inputs = tuple(self.codes(self.graph.source(n)) for n in node.inputs)
        lo, hi = (int(bound) for bound in clamp)
        return self.push(ir.Add(name=node.name, inputs=inputs, output=output, out=y, lo=lo, hi=hi))

    def _lut(self, node: Node, y: ir.Format, output: str) -> str:
        before = node.inputs[0]
        x = self.codes(before)

        def function(values: Tensor) -> Tensor:
            example = values.reshape(-1, *(1,) * (before.example.dim() - 1))
            result: Tensor = node.run({before: example})
            return result.reshape(-1)

        codes = table(function, self.formats[x], y, node.name)
        return self.push(ir.Lut(name=node.name, inputs=(x,), output=output, out=y, table=codes))

    def _prelu(self, node: Node, y: ir.Format, output: str) -> str:
        x = self.codes(node.inputs[0])
        return prelu(self, node.name, x, y, output, **self.graph.kinds[node].params)

    def _island(self, node: Node, y: ir.Format | None, output: str) -> str:
        sources, function = island(node, self.graph.nodes, self.graph.kinds)
        inputs = tuple(self.codes(n) for n in sources)
        why = self.graph.kinds[node].why or "what the network gives is not rounded to codes"
        made = ir.Island(
            name=node.name,
            inputs=inputs,
            output=output,
            out=y,
            function=function,
            shape=shape(node),
            reason=why,
        )
        return self.push(made)


def _around(pad: Kind) -> bool:
    """Whether a call puts zeros around images and does nothing else."""
    return pad.word == "pad" and pad.params["stride"] == (1, 1) and not any(pad.params["pads"][:2])


_EMIT: dict[str, Callable[[_Lowering, Node, ir.Format, str], str]] = {
    "concat": _Lowering._concat,  # noqa: SLF001 - the class's own table
    "lut": _Lowering._lut,  # noqa: SLF001
    "prelu": _Lowering._prelu,  # noqa: SLF001
    "other": _Lowering._island,  # noqa: SLF001
}
