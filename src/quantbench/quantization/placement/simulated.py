"""Where the published simulations quantize activations: behind what makes a tensor, once.

Whoever reads the tensor reads it quantized, so that a shortcut carries the few bits, too. Read in
the code that was released: ``quant/quant_layer.py``, ``quant_block.py`` and ``quant_model.py`` of
yhhhli/BRECQ, ``qdrop/model/__init__.py`` and ``solver/main_imagenet.py`` of wimh966/QDrop,
``custom_quantizer/academic_quantizer.py`` of ModelTC/MQBench.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from quantbench.network.graph.calls import Node
from quantbench.network.network import Network
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.placement.arguments import KEEPS_FORMAT
from quantbench.quantization.placement.graph import record_operators
from quantbench.quantization.placement.place import Graph
from quantbench.quantization.scheme import Grid, Scheme

FUNCTIONS = ("clamp", "lut")  # that belong to the layer or the add before them

THROUGH = (*KEEPS_FORMAT, "avgpool")  # so that the last layer asks for what is averaged for it


class Outputs(Graph):
    """BRECQ and QDrop: what each layer gives, and each block, after the activation function.

    A layer that goes straight into a residual add has no quantizer, the add has it. Nor have the
    network's input, pools, and what only the network's output follows from.
    """

    def quantized(self) -> Iterator[Node]:
        """Ends of layers and adds."""
        for node in self.nodes:
            if self.kinds[node].word not in ("layer", "add"):
                continue
            end = self._end(node)
            into_add = end is node and self._words(node) == {"add"}
            if not self._only_output(end) and not (self._is_layer(node) and into_add):
                yield end

    def grid(self, node: Node, scheme: Scheme, edges: frozenset[str]) -> Grid:
        """The bits of the layers that read it; ``edge_acts`` says which are at the edge's bits."""
        if scheme.edge_acts == "inputs":
            return self.asked(node, scheme, edges, THROUGH)
        layers = [n for n in self.nodes if self._is_layer(n)]
        for layer in (layers[0], *layers[-2:-1]):
            if self._end(layer) is node:
                grid = scheme.act_grid(layer.target.info.name, edge=True)
                assert grid is not None
                return grid
        return self.asked(node, scheme, frozenset(), THROUGH)

    def _end(self, node: Node) -> Node:
        """The last of the activation functions that a value goes through before anything else."""
        users = self.users(node)
        while len(users) == 1 and self.kinds[users[0]].word in FUNCTIONS:
            node = users[0]
            users = self.users(node)
        return node

    def _is_layer(self, node: Node) -> bool:
        return isinstance(node.target, QuantLayer)

    def _words(self, node: Node) -> set[str]:
        return {self.kinds[user].word for user in self.users(node)}

    def _only_output(self, node: Node) -> bool:
        """Whether nothing but the network's output is made of it."""
        users = self.users(node)
        through = (u for u in users if self.kinds[u].word in THROUGH)
        rest = [u for u in users if self.kinds[u].word not in THROUGH]
        return all(u.op == "output" for u in rest) and all(map(self._only_output, through))


class Shared(Graph):
    """MQBench: the input of each layer, one quantizer a tensor; whoever else reads it shares it.

    So the network's input has one, and of pools those that a layer reads.
    """

    def quantized(self) -> Iterator[Node]:
        """What layers read."""
        for node in self.nodes:
            if node.op != "get_attr" and any(isinstance(u.target, QuantLayer) for u in node.users):
                yield node

    def grid(self, node: Node, scheme: Scheme, edges: frozenset[str]) -> Grid:
        """The most bits that a layer asks for which reads it."""
        return self.asked(node, scheme, edges, ("same",))


SIMULATED: Mapping[str, type[Graph]] = {"outputs": Outputs, "shared": Shared}


def behind_layers(model: nn.Module, net: Network) -> dict[str, str]:
    """Quantizers that take what one layer gives, through its known activation function if any.

    Args:
        model: simulation of ``net`` with its quantizers.
        net: gives the sample.

    Returns:
        names of quantizers by that of their layer.

    """
    graph, found = Graph(record_operators(model, net.sample[0][:1]).nodes), {}
    names = {module: name for name, module in model.named_modules()}
    for node in graph.nodes:
        if not isinstance(node.target, ActQuant):
            continue
        source, functions = graph.source(node.inputs[0]), 0
        while graph.kinds[source].word in FUNCTIONS and len(graph.users(source)) == 1:
            source, functions = graph.source(source.inputs[0]), functions + 1
        if isinstance(source.target, QuantLayer) and len(graph.users(source)) == 1:
            info = source.target.info
            if functions == (info.activation is not None):
                found[info.name] = names[node.target]
    return found
