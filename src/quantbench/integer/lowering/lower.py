"""A quantized network as an integer program: every quantizer says in which format the expression behind it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from quantbench.errors import Unsupported
from quantbench.integer import ir
from quantbench.integer.lowering.convolution import conv
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
from quantbench.quantization.placement.graph import Node, flatten
from quantbench.quantization.placement.place import Graph
from quantbench.quantization.quantized import Quantized


def lower(q: Quantized) -> ir.Program:
    """The integer program of a network that was quantized under an ``integer`` placement.

    Raises:
        Unsupported: another placement, or an operator whose numbers have no integer form.
        BadInput: layers without codes, or ranges that were never calibrated.

    """
    q.check_complete()
    if q.scheme.placement != "integer":
        raise Unsupported(
            f"scheme {q.scheme} quantizes the layers' inputs alone: only a network with placement='integer', where "
            "residual adds, concatenations and pools are quantized too, runs on integers"
        )
    (sample,) = q.net.sample
    with q.full_precision_acts():
        graph = Graph(flatten(q.model, sample[:1]))
    program = _Lowering(graph).program()
    validate(program)
    return program


def executable(q: Quantized) -> Callable[..., Tensor]:
    """What an evaluation runs: the simulation, or its exact integer form where the placement allows one."""
    if q.scheme.placement != "integer":
        return q.fake()
    return Simulation(lower(q), q.net.device)


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
        kind = self.graph.kinds[node].word
        if (
            kind == "flatten"
            and self.graph.kinds[source := self.graph.source(node.inputs[0])].word == "layer"
        ):
            node, kind = source, "layer"  # (N, K, 1, 1) to (N, K)
        if kind == "layer":
            self._layer(node, None, "logits", whole(ir.Format(1.0, 0)))
        elif kind == "other":
            self._island(node, None, "logits")
        else:
            self._push(
                ir.Dequantize(name="output", inputs=(self.codes(node),), output="logits", out=None)
            )

    def codes(self, node: Node) -> str:
        """Name of the tensor that holds a call's codes."""
        node = self.graph.source(node)
        if node not in self.tensors:
            self.tensors[node] = self._codes(
                node, self.graph.kinds[node].word, self.graph.kinds[node].params
            )
        return self.tensors[node]

    def _codes(self, node: Node, word: str, params: dict[str, Any]) -> str:
        if word == "quant":
            return self._quantize(node)
        if word not in ("maxpool", "pad", "flatten", "clamp"):
            raise Unsupported(
                f"{node.name}: its result is not quantized, so nothing behind it can run on integers"
            )
        x = self.codes(node.inputs[0])
        f = self.formats[x]
        common: dict[str, Any] = {"name": node.name, "inputs": (x,), "output": node.name, "out": f}
        match word:
            case "maxpool":
                return self._push(ir.MaxPool(**common, **params))
            case "pad":
                return self._push(ir.Pad(**common, **params))
            case "flatten":
                return self._push(ir.Flatten(**common))
        return self._push(
            ir.Lut(**common, table=np.clip(np.arange(256), *bounds(**params, y=f)).astype(np.uint8))
        )

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

    def emit(  # noqa: PLR0911 - a case a kind
        self, node: Node, y: ir.Format, output: str, clamp: Clamp | None = None
    ) -> str:
        """Make a call's value in a given format; returns the tensor's name."""
        node = self.graph.source(node)
        word, params = self.graph.kinds[node].word, self.graph.kinds[node].params
        clamp = clamp or whole(y)
        common: dict[str, Any] = {"name": node.name, "output": output, "out": y}
        match word:
            case "clamp" if self._clamps_sums(node):
                return self.emit(node.inputs[0], y, output, bounds(**params, y=y))
            case "layer":
                return self._layer(node, y, output, clamp)
            case "add":
                return self._add(node, y, output, clamp)
            case "concat":
                parts = tuple(
                    self._part(part, y, f"{output}.{i}") for i, part in enumerate(node.inputs)
                )
                return self._push(ir.Concat(**common, inputs=parts))
            case "avgpool" | "lrn":
                made = ir.AvgPool if word == "avgpool" else ir.LRN
                return self._push(made(**common, inputs=(self.codes(node.inputs[0]),), **params))
            case "lut":
                return self._lut(node, y, output)
            case "other":
                return self._island(node, y, output)
        x = self.codes(node)
        return x if self.formats[x] == y else self._push(ir.Concat(**common, inputs=(x,)))

    def _part(self, node: Node, y: ir.Format, output: str) -> str:
        """One input of a concatenation: made in its format if it has no quantizer of its own."""
        node = self.graph.source(node)
        return (
            self.emit(node, y, output)
            if self._sums(node) or self._clamps_sums(node)
            else self.codes(node)
        )

    def _sums(self, node: Node) -> bool:
        return self.graph.kinds[node].word in ("layer", "add")

    def _clamps_sums(self, node: Node) -> bool:
        return self.graph.kinds[node].word == "clamp" and self._sums(
            self.graph.source(node.inputs[0])
        )

    def _layer(
        self, node: Node, y: ir.Format | None, output: str, clamp: Clamp, residual: str = ""
    ) -> str:
        source, pads = self.graph.source(node.inputs[0]), (0, 0, 0, 0)
        pad = self.graph.kinds[source]
        if pad.word == "pad" and pad.params["stride"] == (1, 1) and not any(pad.params["pads"][:2]):
            source, pads = self.graph.source(source.inputs[0]), pad.params["pads"][2:]
        x = self.codes(source)
        inputs = (x, residual) if residual else (x,)
        return self._push(conv(node.target, inputs, self.formats[x], y, output, clamp, pads))

    def _add(self, node: Node, y: ir.Format, output: str, clamp: Clamp) -> str:
        operands = [self.graph.source(n) for n in node.inputs]
        layer = self.graph.fused(node)
        if layer is not None:
            (other,) = (n for n in operands if n is not layer)
            return self._layer(layer, y, output, clamp, self.codes(other))
        a, b = (self.codes(n) for n in operands)
        return self._push(
            ir.Add(
                name=node.name,
                inputs=(a, b),
                output=output,
                out=y,
                lo=int(clamp[0]),
                hi=int(clamp[1]),
            )
        )

    def _lut(self, node: Node, y: ir.Format, output: str) -> str:
        before = node.inputs[0]
        x = self.codes(before)

        def function(values: Tensor) -> Tensor:
            result: Tensor = node.run(
                {before: values.reshape(-1, *(1,) * (before.example.dim() - 1))}
            )
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
